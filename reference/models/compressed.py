"""LLaVA with each compressor, in the layout in which it is published, and our own with an elastic QueCC: fixtures/models/compressed-*.

CLIP with 42 px / 7 = 6 x 6 patches and 8 blocks of width 16, a Llama of width 24, stored in f16: as small as the methods allow. The compressors are those of
make_compressors.py and compressors.py; the rest is transformers.
"""

import torch
from make_compressors import Mqt, QueCC, fill, visionzip
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from . import layouts, llava, tokenizer
from .common import MODELS, checkpoint, metadata, save_checkpoint, save_json, save_tensors
from .compressors import TokenPacker, pooled, prumerge, prumerge_plus
from .multimodal import MIN_LEAD, QUESTION, build, decode, preprocessor

GRID, SIDE, BLOCKS = 6, 42, 8
D, WIDTH = 16, 24
STATES = [4, 5, 6, 7]  # 1/2, 2/3, -3 and -2 of 8 blocks
FIRST_SEED = 5000
STEPS = 12
TOWER = "model.vision_tower.vision_tower."
FOLDERS = [f"compressed-{name}" for name in ("plain", "quecc", "token-packer", "mqt", "elastic")]

VISION = llava.VISION | {"hidden_size": D, "image_size": SIDE, "intermediate_size": 24, "num_hidden_layers": BLOCKS}
TEXT = llava.TEXT | {"hidden_size": WIDTH, "intermediate_size": 40}
SIDES = [1, 2, 3, 6]

QUECC_CONFIG = {
    "mm_vision_output_combined_token_count": None,
    "mm_vision_output_text_embedding_size": WIDTH,
    "mm_vision_output_token_count": GRID * GRID,
    "mm_vision_token_compression_kernel_size": 3,
    "mm_vision_token_compression_stride": 3,
    "mm_vision_token_compression_type": "quecc",
}
MQT_CONFIG = {"mm_projector_type": "linear", "num_visual_tokens": "second_stage", "query_abstractor_type": "matry_query"}
ELASTIC_CONFIG = {
    "method": "quecc",
    "width": D,
    "text_width": WIDTH,
    "heads": 8,
    "filters": {"elastic": SIDES},
    "query_state": -2,
    "states": ["1/2", "2/3", -3, -2],
}


def hf_config():
    text = LlamaConfig(**{k: v for k, v in TEXT.items() if k not in ("architectures", "model_type", "torch_dtype")})
    vision = CLIPVisionConfig(**{k: v for k, v in VISION.items() if k != "model_type"})
    return LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.IMAGE, vision_feature_layer=-2,
        image_seq_length=GRID * GRID,
    )


def position_table(side, d):
    """MQT's fixed table: sines and cosines of the column, then of the row, rounded to half precision."""
    omega = 10000.0 ** (-torch.arange(d // 4, dtype=torch.float64) / (d / 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    parts = [f(place.flatten()[:, None] * omega) for place in (columns, rows) for f in (torch.sin, torch.cos)]
    return torch.cat(parts, 1).half().float()


def halves(module, seed):
    fill(module, seed)
    for parameter in module.parameters():
        parameter.data = parameter.data.half().float()
    return module.eval()


class Sight:
    """What the tower gives for the image."""

    def __init__(self, model, pixels, resize=False):
        tower = model.model.vision_tower
        states = tower(pixels, output_hidden_states=True, interpolate_pos_encoding=resize).hidden_states
        self.states = [state[0] for state in states]
        self.x = self.states[-2][1:]
        self.levels = torch.cat([self.states[index][1:] for index in STATES], -1)
        self.blocks = tower.vision_model.encoder.layers

    def queries_and_keys(self, block):
        layer = self.blocks[block]
        normed = layer.layer_norm1(self.states[block])
        return layer.self_attn.q_proj(normed), layer.self_attn.k_proj(normed)


class Case:
    """The prompt around an image's rows, and everything that follows from them."""

    def __init__(self, model, coder):
        prompt = llava.vicuna(1, QUESTION)
        self.model, self.ids = model, torch.tensor([coder.encode(prompt).ids])
        self.question = torch.tensor([coder.encode(QUESTION).ids])
        self.vector = model.model.language_model(input_ids=self.question).last_hidden_state[:, -1]
        self.lead = float("inf")

    def run(self, rows):
        table = self.model.get_input_embeddings()(self.ids)[0]
        at = self.ids[0].tolist().index(tokenizer.IMAGE)
        embeds = torch.cat([table[:at], rows, table[at + 1 :]]).unsqueeze(0)
        hidden = self.model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        ids, lead = decode(self.model, embeds, STEPS)
        self.lead = min(self.lead, lead if min(ids) >= 6 else 0.0)
        return {"rows": rows, "logits": self.model.lm_head(hidden[0, -1]), "greedy": torch.tensor(ids)}


def plain_cases(model, sight, small):
    """The methods without weights of their own, and the down-scaled image: name and number of tokens -> rows."""
    project = model.model.multi_modal_projector
    last, before = sight.queries_and_keys(BLOCKS - 1), sight.queries_and_keys(BLOCKS - 2)
    rows = {"identity.36": project(sight.x), "down-scaled.16": project(small.x)}
    for count in (36, 9, 4, 1):
        rows[f"average-pooling.{count}"] = project(pooled(sight.x, GRID, count))
    for count in (36, 9, 1):
        rows[f"m3.{count}"] = pooled(project(sight.x), GRID, count)
    for count in (2, 9, 20):
        rows[f"prumerge.{count}"] = project(prumerge(sight.x, *last, count - 1))
    rows["prumerge.adaptive"] = project(prumerge(sight.x, *last))
    rows["prumerge-plus.adaptive"] = project(prumerge_plus(sight.x, *last))
    for count in (3, 12, 20):
        contextual = max(1, count // 6)
        state, queries, keys = (y.unsqueeze(0) for y in (sight.states[-2], *before))
        zipped, _ = visionzip(state, queries, keys, VISION["num_attention_heads"], count - 1 - contextual, contextual)
        rows[f"visionzip.{count}"] = project(zipped[0])
    return rows


def cases_of(model, sight, small, case, modules):
    """Folder -> case -> rows."""
    project = model.model.multi_modal_projector
    x, levels, text = (y.unsqueeze(0) for y in (sight.x, sight.levels, case.vector))
    quecc, packer, mqt, elastic = modules
    return {
        "plain": plain_cases(model, sight, small),
        "quecc": {"quecc.4": project(quecc(x, levels, text, GRID, GRID)[0])},
        "token-packer": {"token-packer.9": packer(sight.x, sight.levels, GRID)},
        "mqt": {f"mqt.{m}": mqt(x, GRID, GRID, m)[0] for m in (1, 7, 256)},
        "elastic": {f"quecc.{(GRID // k) ** 2}": project(rung(x, levels, text, GRID, GRID)[0]) for k, rung in elastic.items()},
    }


def modules_of(seed):
    quecc = halves(QueCC(D, WIDTH, 8, 3), seed + 1)
    packer = halves(TokenPacker(D, WIDTH, max(1, D // 128), 2), seed + 2)
    mqt = halves(Mqt(D, WIDTH, 16, 16), seed + 3)
    mqt.pos_embed.data = position_table(16, D)
    elastic = {}
    for k in SIDES:
        rung = halves(QueCC(D, WIDTH, 8, k), seed + 4)
        # One set of weights: everything but the filter is the first rung's.
        if elastic:
            shared = {n: v for n, v in elastic[SIDES[0]].state_dict().items() if not n.startswith("q_downsample")}
            rung.load_state_dict(shared, strict=False)
        elastic[k] = rung
    return quecc, packer, mqt, elastic


def compressor_tensors(modules):
    quecc, packer, mqt, elastic = modules
    below = lambda module, prefix: {prefix + name: value.half() for name, value in module.state_dict().items()}
    own = below(elastic[SIDES[0]], "compressor.")
    own = {name: value for name, value in own.items() if ".q_downsample." not in name}
    for k, rung in elastic.items():
        for part in ("weight", "bias"):
            own[f"compressor.q_downsample.{k}.{part}"] = rung.state_dict()[f"q_downsample.{part}"].half()
    return {
        "quecc": below(quecc, "model.mm_projector.0."),
        "token-packer": below(packer, "model.mm_projector."),
        "mqt": below(mqt, "model.query_abstractor."),
        "elastic": own,
    }


def original_names(stored, name):
    """The original LLaVA's names with the tower inside; QueCC moves the projector up, two methods have none."""
    tensors = layouts.original(stored, tower_prefix=TOWER)
    projector = {key: value for key, value in tensors.items() if ".mm_projector." in key}
    rest = {key: value for key, value in tensors.items() if key not in projector}
    if name == "plain":
        return tensors
    if name == "quecc":
        moved = {"model.mm_projector.0.": "model.mm_projector.1.", "model.mm_projector.2.": "model.mm_projector.3."}
        return rest | {new + key[len(old) :]: value for old, new in moved.items() for key, value in projector.items() if key.startswith(old)}
    return rest


def write(name, stored, extra, tensors, seed, lead):
    folder = MODELS / f"compressed-{name}"
    own = name == "elastic"
    tokenizer.save(folder, template=tokenizer.LLAVA, image_token=own)
    if own:
        config = llava.CONFIG | {"text_config": TEXT, "vision_config": VISION, "image_seq_length": GRID * GRID, "compressor": ELASTIC_CONFIG}
        save_json(folder / "config.json", config)
        save_json(folder / "preprocessor_config.json", preprocessor(SIDE, "CLIPImageProcessor", processor_class="LlavaProcessor"))
        save_checkpoint(folder, layouts.published(stored) | extra[name])
    else:
        more = {"quecc": QUECC_CONFIG, "token-packer": {"scale_factor": 2}, "mqt": MQT_CONFIG, "plain": {}}[name]
        save_json(folder / "config.json", layouts.original_config(TEXT, "vision_tower", D) | more)
        save_json(folder / "vision_tower" / "config.json", VISION | {"architectures": ["CLIPVisionModel"]})
        save_json(folder / "vision_tower" / "preprocessor_config.json", preprocessor(SIDE, "CLIPImageProcessor"))
        save_checkpoint(folder, original_names(stored, name) | extra.get(name, {}))
    meta = metadata(seed, image="cat.png", question=QUESTION, greedy_lead=f"{lead:.4f}")
    save_tensors(folder / "expected.safetensors", tensors, meta)


def pixels_at(side):
    size = {"crop_size": {"height": side, "width": side}, "size": {"shortest_edge": side}}
    return llava.pixels_of(llava.PAD | size, ["cat.png"])


@torch.no_grad()
def make():
    coder = tokenizer.build()
    pixels, down_scaled = pixels_at(SIDE), pixels_at(28)
    for seed in range(FIRST_SEED, FIRST_SEED + 200):
        model = build(LlavaForConditionalGeneration, hf_config(), seed, torch.float16)
        modules = modules_of(seed)
        sight, small, case = Sight(model, pixels), Sight(model, down_scaled, resize=True), Case(model, coder)
        found = {
            name: {key: case.run(rows) for key, rows in rows_of.items()}
            for name, rows_of in cases_of(model, sight, small, case, modules).items()
        }
        if case.lead >= MIN_LEAD:
            break
    else:
        raise RuntimeError("no seed gives continuations without near ties")
    stored, extra = checkpoint(model, torch.float16), compressor_tensors(modules)
    inputs = {"in.input_ids": case.ids[0], "in.question_ids": case.question[0]}
    pictures = {"in.pixel_values": pixels, "in.down-scaled.pixel_values": down_scaled}
    for name, runs in found.items():
        tensors = {f"out.{key}.{part}": value for key, run in runs.items() for part, value in run.items()}
        more = {"out.question": case.vector} | (pictures if name == "plain" else {})
        write(name, stored, extra, inputs | tensors | more, seed, case.lead)
