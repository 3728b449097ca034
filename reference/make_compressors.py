"""Make vectors for the compressors that the reference implementations' own vectors do not cover: fixtures/compress/extra_*.

    python reference/make_compressors.py

Written from the methods' descriptions with PyTorch's own layers (Conv2d, MultiheadAttention, interpolate, quantile), so that
nothing is shared with the Rust code but the description. Before anything is written, the same functions are held to the
reference implementations' vectors in fixtures/compress. Float32 on the CPU, fixed seeds; versions in requirements.txt.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent.parent / "fixtures" / "compress"
EPS = 1e-6


def read(name):
    with safe_open(HERE / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()


def write(name, tensors, **metadata):
    metadata = {key: str(value) for key, value in metadata.items()} | {"torch": torch.__version__}
    save_file({key: value.contiguous() for key, value in tensors.items()}, HERE / f"{name}.safetensors", metadata)


def branch(d_in, d):
    return nn.Sequential(nn.Linear(d_in, d), nn.GELU(), nn.Linear(d, d), nn.LayerNorm(d, eps=EPS))


def windows(x, rows, columns, k):
    """[b, rows * columns, d] -> [b * windows, k * k, d]"""
    b, _, d = x.shape
    x = x.view(b, rows // k, k, columns // k, k, d).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, k * k, d)


class QueCC(nn.Module):
    def __init__(self, d, text, heads, k, levels=4):
        super().__init__()
        self.k = k
        self.q_proj, self.k_proj, self.v_proj = branch(d, d), branch(levels * d, d), branch(levels * d, d)
        self.q_downsample = nn.Conv2d(d, d, k, stride=k, groups=d)
        self.text_projection = nn.Sequential(nn.Linear(text, d), nn.LayerNorm(d, eps=EPS))
        self.clip_attn = nn.MultiheadAttention(d, heads, batch_first=True)

    def forward(self, x, multi, text, rows, columns):
        b, _, d = x.shape
        q = self.q_proj(x + self.text_projection(text))
        q = self.q_downsample(q.transpose(1, 2).reshape(b, d, rows, columns)).flatten(2).transpose(1, 2)
        v = q.shape[1]
        keys, values = (windows(y, rows, columns, self.k) for y in (self.k_proj(multi), self.v_proj(multi)))
        return self.clip_attn(q.reshape(b * v, 1, d), keys, values, need_weights=False)[0].reshape(b, v, d)


class Mqt(nn.Module):
    def __init__(self, d, width, heads, side):
        super().__init__()
        self.side = side
        self.query = nn.Parameter(torch.zeros(side * side, d))
        self.pos_embed = nn.Parameter(torch.zeros(side * side, d))
        self.ln_q, self.ln_k, self.ln_v = (nn.LayerNorm(d, eps=EPS) for _ in range(3))
        self.attn = nn.MultiheadAttention(d, heads, batch_first=True)
        self.proj = nn.Parameter(torch.zeros(d, width))

    def forward(self, x, rows, columns, m):
        b, _, d = x.shape
        table = self.pos_embed.T.reshape(1, d, self.side, self.side)
        table = F.interpolate(table, size=(rows, columns), mode="bicubic", align_corners=False)
        k = self.ln_k(table.flatten(2).transpose(1, 2)).expand(b, -1, -1)
        q = self.ln_q(self.query + self.pos_embed)[:m].expand(b, -1, -1)
        return self.attn(q, k, self.ln_v(x), need_weights=False)[0] @ self.proj


def visionzip(state, queries, keys, heads, dominant, contextual):
    """All [1, 1 + patches, d]; returns rows and, for each contextual token, how many patches joined it."""
    _, n, d = keys.shape
    q, k = (x.view(n, heads, d // heads).transpose(0, 1) for x in (queries, keys))
    attention = ((q @ k.transpose(1, 2)) * (d // heads) ** -0.5).softmax(-1)[:, 0].sum(0)[1:]
    top = attention.topk(dominant).indices.sort().values
    rest = torch.tensor([p for p in range(n - 1) if p not in set(top.tolist())])
    metric = F.normalize(k.mean(0)[1:][rest], dim=-1)
    step = max(1, len(rest) // contextual)
    places = list(range(0, len(rest), step))[:contextual]
    others = [p for p in range(len(rest)) if p not in places]
    joins = (metric[others] @ metric[places].T).argmax(-1)
    x = state[0, 1:]
    rows, joined = [state[0, :1], x[top]], []
    for target, place in enumerate(places):
        members = rest[[p for p, join in zip(others, joins) if join == target]] if others else rest[:0]
        joined.append(len(members))
        rows.append((x[rest[place]] + (x[members].mean(0) if len(members) else 0)).unsqueeze(0))
    return torch.cat(rows).unsqueeze(0), joined


def fill(module, seed, size=1.5):
    """Random weights of a size that keeps attention far from uniform and norms away from the identity."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scale = parameter[0].numel() ** -0.5 * size if parameter.dim() > 1 else 0.3
        shift = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
        parameter.data = noise * scale + shift
    return generator


def check(name, found, expected):
    apart = (found - expected).abs().max().item()
    assert apart < 3e-6, f"{name}: {apart}"


def against_the_references():
    for k in (3, 4, 6, 12, 24):
        tensors, meta = read(f"quecc_k{k}")
        module = QueCC(int(meta["embed_dim"]), int(meta["text_dim"]), int(meta["heads"]), k)
        prefix = "mm_projector.0."
        module.load_state_dict({key[len(prefix):]: value for key, value in tensors.items() if key.startswith(prefix)})
        out = module(tensors["in.features"], tensors["in.features_multi"], tensors["in.text"], 24, 24)
        check(f"quecc {k}", out, tensors["out"])
    tensors, meta = read("mqt")
    module = Mqt(int(meta["kv_dim"]), int(meta["embed_dim"]), int(meta["heads"]), int(meta["query_grid"]))
    prefix = "mm_projector."
    module.load_state_dict({key[len(prefix):]: value for key, value in tensors.items() if key.startswith(prefix)})
    for m in (1, 2, 16, 36, 256):
        check(f"mqt {m}", module(tensors["in.features"], 24, 24, m), tensors[f"out.{m}"])


def make_quecc():
    d, text, heads = 16, 24, 4
    for k, rows, columns in ((1, 6, 6), (2, 8, 8), (8, 8, 8), (8, 16, 16), (3, 6, 9), (2, 10, 4)):
        module = QueCC(d, text, heads, k)
        generator = fill(module, 100 * k + rows)
        shape = (2, rows * columns)
        tensors = {
            "in.features": torch.randn(*shape, d, generator=generator),
            "in.features_multi": torch.randn(*shape, 4 * d, generator=generator),
            "in.text": torch.randn(2, 1, text, generator=generator),
        }
        tensors["out"] = module(*tensors.values(), rows, columns)
        tensors |= {f"mm_projector.0.{name}": value for name, value in module.state_dict().items()}
        v = rows * columns // (k * k)
        sizes = dict(embed_dim=d, text_dim=text, heads=heads, kernel=k, rows=rows, columns=columns, tokens=v)
        write(f"extra_quecc_k{k}_{rows}x{columns}", tensors, tolerance=3e-6, **sizes)


def make_mqt():
    d, width, heads, side = 16, 12, 4, 16
    module = Mqt(d, width, heads, side)
    generator = fill(module, 7, size=1.0)
    tensors = {f"mm_projector.{name}": value for name, value in module.state_dict().items()}
    grids = ((7, 7), (16, 16), (27, 27), (9, 20))
    for rows, columns in grids:
        x = torch.randn(2, rows * columns, d, generator=generator)
        tensors[f"in.{rows}x{columns}"] = x
        for m in (1, 10, 256):
            tensors[f"out.{rows}x{columns}.{m}"] = module(x, rows, columns, m)
    sizes = dict(kv_dim=d, embed_dim=width, heads=heads, query_grid=side)
    write("extra_mqt", tensors, tolerance=3e-6, grids=" ".join(f"{r}x{c}" for r, c in grids), **sizes)


def make_visionzip():
    """A contextual token that no patch joins: one target's key points away from all the others."""
    d, heads, side, dominant, contextual = 16, 4, 6, 4, 5
    generator = torch.Generator().manual_seed(3)
    n = 1 + side * side
    state, queries = (torch.randn(1, n, d, generator=generator) for _ in range(2))
    common = torch.randn(1, 1, d, generator=generator)
    aligned = torch.randn(1, n, d, generator=generator) * 0.4 + common
    for lone in range(1, n):  # the first patch that is a target even with its key turned round
        keys = aligned.clone()
        keys[:, lone] = -common[:, 0]
        rows, joined = visionzip(state, queries, keys, heads, dominant, contextual)
        if joined.count(0) == 1 and joined[0] > 0:
            break
    assert joined.count(0) == 1, joined
    tensors = {"in.state": state, "in.queries": queries, "in.keys": keys, "out": rows}
    sizes = dict(heads=heads, dominant=dominant, contextual=contextual, side=side)
    write("extra_visionzip_empty", tensors, tolerance=1e-6, joined=joined, **sizes)


if __name__ == "__main__":
    torch.manual_seed(0)
    with torch.inference_mode():
        against_the_references()
        make_quecc()
        make_mqt()
        make_visionzip()
