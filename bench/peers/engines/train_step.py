"""A training step in PyTorch as a worker: a QueCC and a projector learn, a DINOv2 tower and a Llama stay frozen.

A step: the tower's states (or cached ones), the question alone through the language model for the query vector, QueCC, the
projector, the language model over visual rows and text, the loss of the answer's tokens, backward, AdamW.

PyTorch's best chance: frozen weights are stored in the dtype of the products, so that autocast has nothing to convert; the
tower and the query pass run without a graph; the head works on the answer's positions alone; one fused AdamW. "bf16" is
autocast to bf16, trained weights in f32; "f32" has no autocast. A key of its own in a case: "compiled".
"""

import argparse

import torch
from torch import nn
from torch.nn import functional as F

import shapes
from serve import clocked, serve

TOWER, LLM = "dinov2-vit-s-14", "smollm2-135m"
STATES = (6, 8, 10, 11)  # of 12 blocks: a half, two thirds, the last but two, the last but one
PATCH = 14
ANSWER = 8
HEADS = 8
EPSILON = 1e-6


def branch(inputs, d):
    return nn.Sequential(nn.Linear(inputs, d), nn.GELU(), nn.Linear(d, d), nn.LayerNorm(d, eps=EPSILON))


class QueCC(nn.Module):
    """Each visual token asks the k × k patches of its own window; the question shifts what it asks."""

    def __init__(self, d, text, k):
        super().__init__()
        self.k = k
        self.q_proj, self.k_proj, self.v_proj = branch(d, d), branch(len(STATES) * d, d), branch(len(STATES) * d, d)
        self.q_downsample = nn.Conv2d(d, d, k, stride=k, groups=d)
        self.text_projection = nn.Sequential(nn.Linear(text, d), nn.LayerNorm(d, eps=EPSILON))
        self.clip_attn = nn.MultiheadAttention(d, HEADS, batch_first=True)

    def forward(self, levels, question):
        x = levels[-1]
        batch, patches, d = x.shape
        side = round(patches**0.5)
        q = self.q_proj(x + self.text_projection(question)[:, None])
        q = self.q_downsample(q.transpose(1, 2).unflatten(2, (side, side))).flatten(2).transpose(1, 2)
        joined = torch.cat(levels, -1)
        keys, values = (self.windows(make(joined), side) for make in (self.k_proj, self.v_proj))
        return self.clip_attn(q.flatten(0, 1)[:, None], keys, values, need_weights=False)[0].view(batch, -1, d)

    def windows(self, x, side):
        k = self.k
        x = x.unflatten(1, (side // k, k, side // k, k)).transpose(2, 3)
        return x.reshape(-1, k * k, x.shape[-1])


class Task:
    """Frozen models, trained parts, one fixed batch of random pixels and tokens."""

    def __init__(self, case):
        self.dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[case["dtype"]]
        self.tower = shapes.tower(TOWER).requires_grad_(False).to(self.dtype)
        self.llm = shapes.llm(LLM).requires_grad_(False).to(self.dtype)
        d, width = self.tower.config.hidden_size, self.llm.config.hidden_size
        window = round(((case["image_size"] // PATCH) ** 2 / case["visual_tokens"]) ** 0.5)
        self.quecc = QueCC(d, width, window)
        self.projector = nn.Sequential(nn.Linear(d, width), nn.GELU(), nn.Linear(width, width))
        trained = [*self.quecc.parameters(), *self.projector.parameters()]
        self.optimiser = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0, fused=True)
        size = case["image_size"]
        self.pixels = torch.randn(case["batch"], 3, size, size, dtype=self.dtype)
        self.text = torch.randint(1000, 40000, (case["batch"], case["text_tokens"]))
        self.visual_tokens = case["visual_tokens"]
        with self.autocast():
            self.cached = self.states() if case["cached_features"] else None
        self.loss = torch.compile(self.forward, dynamic=False) if case.get("compiled") else self.forward

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @torch.no_grad()
    def states(self):
        found = self.tower(self.pixels, output_hidden_states=True).hidden_states
        return [found[index][:, 1:] for index in STATES]

    @torch.no_grad()
    def question(self):
        asked = self.text[:, : self.text.shape[1] - ANSWER]
        return self.llm.model(input_ids=asked, use_cache=False).last_hidden_state[:, -1]

    def forward(self):
        levels = self.cached or self.states()
        visual = self.projector(self.quecc(levels, self.question()))
        rows = torch.cat([visual.to(self.dtype), self.llm.get_input_embeddings()(self.text)], 1)
        hidden = self.llm.model(inputs_embeds=rows, use_cache=False).last_hidden_state
        logits = self.llm.lm_head(hidden[:, -ANSWER - 1 : -1])
        return F.cross_entropy(logits.float().flatten(0, 1), self.text[:, -ANSWER:].flatten())

    def step(self):
        self.optimiser.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.loss()
        loss.backward()
        self.optimiser.step()
        return loss.item()


def prepare(case):
    if case["stage"] != "train_step":
        raise ValueError(f"only the stage train_step, not {case['stage']}")
    return clocked(Task(case).step)


def describe():
    notes = "frozen weights stored in the products' dtype, fused AdamW, head on the answer's positions alone"
    return {"versions": {"torch": torch.__version__}, "notes": notes}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(arguments.parse_args().threads)
    torch._inductor.config.compile_threads = 1
    serve(prepare, describe)
