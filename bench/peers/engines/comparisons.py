"""What is compared: shapes, entrants and the goals that the project set itself before it knew the numbers."""

import pathlib
from dataclasses import dataclass, field

TOWER = "shape:clip-vit-l-14-336"
LLM = "shape:smollm2-135m"
BOTH = "shape:clip-vit-l-14-336+smollm2-135m"
TRAINED = "shape:dinov2-vit-s-14+smollm2-135m"
CLIP_GFLOP = 366.0  # 23 blocks and the patch embedding: two per multiply-add of products and attention
TEXT = 50
VISUAL = (1, 36, 576)
LLAMA_VARIANTS = (
    {"flash_attention": False},
    {"flash_attention": True},
    {"flash_attention": True, "micro_batch": 1024},
    {"flash_attention": True, "micro_batch": 128},
)
EAGER_OR_COMPILED = ({"compiled": False}, {"compiled": True})


@dataclass
class Entrant:
    """One engine on one case. Of several variants the fastest of a short trial runs in the comparison."""

    engine: str
    label: str
    case: dict
    variants: tuple = ({},)


@dataclass
class Goal:
    """`ours` over the fastest of `theirs` (of their medians); `limit` is None where no goal was set."""

    ours: str
    theirs: tuple
    limit: float | None = None


@dataclass
class Comparison:
    name: str
    entrants: list
    goals: list
    notes: list = field(default_factory=list)
    gflop: float | None = None
    megabytes: float | None = None


def transformers(dtypes, case, variants):
    """Dynamic quantisation runs as it is: torch.compile is not made for it."""
    tried = {dtype: variants[:1] if dtype == "int8" else variants for dtype in dtypes}
    return [Entrant("transformers", f"transformers {dtype}", case | {"dtype": dtype}, tried[dtype]) for dtype in dtypes]


def foveate(dtypes, case):
    return [Entrant("foveate", f"foveate {dtype}", case | {"dtype": dtype}) for dtype in dtypes]


def against_transformers(name, case, dtypes, limits, variants):
    """Every dtype of foveate's against transformers' bf16 (the goal's wording) and against its fastest dtype."""
    theirs = transformers(("bf16", "f32", "int8"), case, variants)
    goals = []
    for dtype in dtypes:
        goals.append(Goal(f"foveate {dtype}", ("transformers bf16",), limits.get(dtype)))
        goals.append(Goal(f"foveate {dtype}", tuple(entrant.label for entrant in theirs), limits.get(dtype)))
    return Comparison(name, foveate(dtypes, case) + theirs, goals)


def towers(variants):
    case = {"stage": "tower", "model": TOWER}
    limits = {"bf16": 0.65, "int8": 0.45}
    comparison = against_transformers("tower-clip", case, ("bf16", "int8", "f32"), limits, variants)
    comparison.notes.append("One 336 × 336 image to hidden state -2: 23 of 24 blocks.")
    comparison.gflop = CLIP_GFLOP
    yield comparison


def onnx(path):
    """foveate runs the file at the size of its position table, up to state -2; so does the peer."""
    case = {"stage": "tower", "model": path}
    theirs = case | {"dtype": "f32", "image_size": 518, "output": "/backbone/encoder/layer.10/Add_1_output_0"}
    dtypes = "f32", "bf16", "int8"
    yield Comparison(
        "tower-onnx",
        [*foveate(dtypes, case), Entrant("onnxruntime", "ONNX Runtime f32", theirs)],
        [Goal(f"foveate {dtype}", ("ONNX Runtime f32",)) for dtype in dtypes],
        [
            "The same file: DINOv2 ViT-S/14, one image of 518 × 518 to hidden state -2: 11 of 12 blocks, what follows cut off."
        ],
    )


def prefills(variants):
    for v in VISUAL:
        case = {"stage": "prefill", "model": LLM, "visual_tokens": v, "text_tokens": TEXT}
        yield against_transformers(f"prefill-{v}", case, ("bf16", "int8", "f32"), {}, variants)


def first_tokens(variants):
    for v in VISUAL:
        case = {"stage": "first_token", "model": BOTH, "visual_tokens": v, "text_tokens": TEXT}
        limits = {"bf16": 0.65}
        comparison = against_transformers(f"first-token-{v}", case, ("bf16", "int8", "f32"), limits, variants)
        comparison.notes.append(
            "Tower, average pooling to V, a projector of two layers, prefill; the image is decoded before."
        )
        yield comparison


def decodes(variants):
    case = {"stage": "decode", "model": LLM, "context": 64, "new_tokens": 64}
    yield against_transformers("decode", case, ("bf16", "int8", "f32"), {}, variants)


def stored(path):
    """The Q4_1 file, against llama.cpp."""
    peer = "llama.cpp Q4_1"
    for v, limit in zip(VISUAL, (0.3, 0.25, 0.2)):
        case = {"stage": "prefill", "model": path, "visual_tokens": v, "text_tokens": TEXT}
        yield Comparison(
            f"llama-prefill-{v + TEXT}",
            [*foveate(("as-stored",), case), Entrant("llama.cpp", peer, case, LLAMA_VARIANTS)],
            [Goal("foveate as-stored", (peer,), limit)],
            [f"{v + TEXT} positions: foveate reads {v} random rows and {TEXT} tokens, llama.cpp {v + TEXT} tokens."],
        )
    case = {"stage": "decode", "model": path, "context": 64, "new_tokens": 64}
    yield Comparison(
        "llama-decode",
        [*foveate(("as-stored",), case), Entrant("llama.cpp", peer, case, LLAMA_VARIANTS[:2])],
        [Goal("foveate as-stored", (peer,), 0.5)],
        ["Milliseconds a token, mean over 64 tokens after a context of 64; GB/s counts the file once a token."],
        megabytes=pathlib.Path(path).stat().st_size / 1e6,
    )


def training():
    for size, cached in ((168, False), (168, True), (224, False), (224, True)):
        case = {"stage": "train_step", "model": TRAINED, "visual_tokens": 16, "text_tokens": 24, "batch": 8}
        case |= {"image_size": size, "cached_features": cached}
        theirs = [
            Entrant("pytorch", f"PyTorch {dtype}", case | {"dtype": dtype}, ({"compiled": False}, {"compiled": True}))
            for dtype in ("bf16", "f32")
        ]
        labels = tuple(entrant.label for entrant in theirs)
        goals = [Goal("foveate bf16", labels[:1], 0.8), Goal("foveate bf16", labels, 0.8)]
        goals += [Goal("foveate f32", labels)]
        features = "tower features cached" if cached else "the tower runs in the step"
        yield Comparison(
            f"train-{size}{'-cached' if cached else ''}",
            foveate(("bf16", "f32"), case) + theirs,
            goals,
            [f"Batch 8, images of {size} × {size}, 24 text tokens of which 8 are the answer, 16 visual; {features}."],
        )


def all_of(gguf, tower_onnx, compiled):
    variants = EAGER_OR_COMPILED if compiled else EAGER_OR_COMPILED[:1]
    yield from stored(gguf)
    yield from towers(variants)
    yield from onnx(tower_onnx)
    yield from prefills(variants)
    yield from first_tokens(variants)
    yield from decodes(variants)
    for comparison in training():
        for entrant in comparison.entrants:
            entrant.variants = entrant.variants if compiled else entrant.variants[:1]
        yield comparison
