"""The compressors that make_compressors.py does not have, from the methods' descriptions: TokenPacker, M3, PruMerge, PruMerge+.

All take one image. Nothing here is shared with the Rust code but the description.
"""

import torch
from torch import nn
from torch.nn import functional as F

EPS = 1e-6
NEIGHBOURS = 32


def windows(x, side, k):
    """[side * side, d] -> [windows, k * k, d], windows and patches row by row"""
    d = x.shape[-1]
    x = x.view(side // k, k, side // k, k, d).transpose(1, 2)
    return x.reshape(-1, k * k, d)


class TokenPacker(nn.Module):
    def __init__(self, d, width, heads, scale, levels=4):
        super().__init__()
        self.scale = scale
        self.q_proj_1 = nn.Linear(d, d, bias=False)
        self.k_proj_1, self.v_proj_1 = (
            nn.Sequential(nn.Linear(levels * d, d), nn.GELU(), nn.Linear(d, d)) for _ in range(2)
        )
        self.ln_q_1, self.ln_k_1, self.ln_v_1 = (nn.LayerNorm(d, eps=EPS) for _ in range(3))
        self.clip_attn = nn.MultiheadAttention(d, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(d, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x, levels, side):
        small = side // self.scale
        picture = x.T.reshape(1, -1, side, side)
        q = F.interpolate(picture, size=(small, small), mode="bilinear", align_corners=False)[0].flatten(1).T
        q = self.ln_q_1(self.q_proj_1(q)).unsqueeze(1)
        k = windows(self.ln_k_1(self.k_proj_1(levels)), side, self.scale)
        v = windows(self.ln_v_1(self.v_proj_1(levels)), side, self.scale)
        return self.mlp(self.clip_attn(q, k, v, need_weights=False)[0][:, 0])


def pooled(x, side, count):
    """Means of equal windows, as M3 (on projected patches) and average pooling (on raw ones) take them."""
    picture = x.T.reshape(1, -1, side, side)
    return F.adaptive_avg_pool2d(picture, round(count**0.5))[0].flatten(1).T


def class_attention(queries, keys):
    """PruMerge's: heads joined; [1 + patches, d] each -> [patches]"""
    return ((keys @ queries[0]) * keys.shape[1] ** -0.5).softmax(0)[1:]


def adaptive_count(attention):
    first, third = torch.quantile(attention, torch.tensor([0.25, 0.75]))
    return max(1, int((attention > third + 1.5 * (third - first)).sum()))


def merged(x, keys, attention, kept):
    """The kept patches, each with its neighbours added, then the sum of what nothing kept."""
    unit = F.normalize(keys, dim=-1)
    rows = []
    for patch in kept:
        near = (unit @ unit[patch]).clone()
        near[patch] = -2.0
        near = near.topk(min(NEIGHBOURS, len(x) - 1)).indices
        rows.append(x[patch] + attention[near] @ x[near])
    rest = torch.tensor([patch for patch in range(len(x)) if patch not in set(kept)], dtype=torch.long)
    rows.append(attention[rest] @ x[rest])
    return torch.stack(rows)


def prumerge(x, queries, keys, count=None):
    """`x` [patches, d]; `queries`, `keys` [1 + patches, d] of the block that reads them."""
    attention = class_attention(queries, keys)
    count = adaptive_count(attention) if count is None else count
    kept = attention.argsort(descending=True)[:count].tolist()
    return merged(x, keys[1:], attention, kept)


def prumerge_plus(x, queries, keys):
    attention = class_attention(queries, keys)
    count = adaptive_count(attention)
    kept = attention.argsort(descending=True)[:count].tolist()
    step = max(1, len(x) // count // 3)
    spaced = [patch for patch in range(0, len(x) - 1, step) if patch not in set(kept)]
    return merged(x, keys[1:], attention, kept + spaced)
