"""LLaVA-1.5 (CLIP + Llama) once, in every layout that is read: published, transformers 5 (two forms), original (two forms).

All folders hold the same numbers, stored in f16, so one `expected.safetensors` serves the Hugging Face layouts; the original ones pad
the image to a square instead of cropping it and use the Vicuna prompt, and have their own.
"""

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

from . import layouts, tokenizer
from .common import MODELS, capture, checkpoint, metadata, save_checkpoint, save_json, save_pickled, save_tensors
from .multimodal import (
    QUESTION,
    SYSTEM,
    TWO_QUESTION,
    as_json,
    build,
    decode,
    expand,
    fair,
    messages,
    photo,
    preprocessor,
    render,
    splice,
)

SIDE, PATCHES = 28, 16
FIRST_SEED = 3000
IMAGES = ["cat.png", "rocket-tall.png"]
FOLDERS = ["llava-1.5", "llava-1.5-v5", "llava-1.5-v5-flat", "llava-original", "llava-original-embedded"]

VISION = {
    "hidden_act": "quick_gelu",
    "hidden_size": 32,
    "image_size": SIDE,
    "intermediate_size": 48,
    "layer_norm_eps": 1e-3,
    "model_type": "clip_vision_model",
    "num_attention_heads": 4,
    "num_channels": 3,
    "num_hidden_layers": 3,
    "patch_size": 7,
    "projection_dim": 24,
}

TEXT = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": tokenizer.BOS,
    "eos_token_id": tokenizer.EOS,
    "hidden_act": "silu",
    "hidden_size": 48,
    "intermediate_size": 80,
    "max_position_embeddings": 512,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": tokenizer.PAD,
    "rms_norm_eps": 1e-3,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "vocab_size": tokenizer.VOCABULARY,
}

CONFIG = {
    "architectures": ["LlavaForConditionalGeneration"],
    "ignore_index": -100,
    "image_seq_length": PATCHES,
    "image_token_index": tokenizer.IMAGE,
    "model_type": "llava",
    "multimodal_projector_bias": True,
    "pad_token_id": tokenizer.PAD,
    "projector_hidden_act": "gelu",
    "text_config": TEXT,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "vision_config": VISION,
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
}

CROP = preprocessor(SIDE, "CLIPImageProcessor", processor_class="LlavaProcessor")
PAD = preprocessor(SIDE, "LlavaImageProcessor", do_pad=True)


def hf_config():
    text = LlamaConfig(**{k: v for k, v in TEXT.items() if k not in ("architectures", "model_type", "torch_dtype")})
    vision = CLIPVisionConfig(**{k: v for k, v in VISION.items() if k != "model_type"})
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.IMAGE,
        image_seq_length=PATCHES,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def pixels_of(settings, names):
    kind = LlavaImageProcessor if settings["image_processor_type"] == "LlavaImageProcessor" else CLIPImageProcessor
    keys = {k: v for k, v in settings.items() if k not in ("image_processor_type", "processor_class")}
    images = [photo(name) for name in names]
    return torch.stack([kind(**keys)(image, return_tensors="pt")["pixel_values"][0] for image in images])


@torch.no_grad()
def run(model, ids, pixels, prefix):
    """One prompt through the whole model, each stage recorded; the splice by hand must match transformers' own."""
    store = {}
    blocks = model.model.vision_tower.vision_model.encoder.layers
    handles = [capture(blocks[0], store, "vision_hidden_states.0", take_input=True)]
    for index, block in enumerate(blocks):
        handles.append(capture(block, store, f"vision_hidden_states.{index + 1}"))
    handles.append(capture(model.model.multi_modal_projector, store, "image_features"))
    result = model(input_ids=ids, pixel_values=pixels, use_cache=False, output_hidden_states=True)
    for handle in handles:
        handle.remove()
    # The projector runs on hidden state -2 without its class token.
    chosen = store[f"vision_hidden_states.{len(blocks) - 1}"][:, 1:]
    assert torch.equal(model.model.multi_modal_projector(chosen), store["image_features"])
    store["inputs_embeds"] = splice(model, ids, store["image_features"].flatten(0, 1))
    assert torch.equal(store["inputs_embeds"], result.hidden_states[0])
    store["last_hidden_state"] = result.hidden_states[-1]
    store["logits"] = result.logits
    continuation, lead = decode(model, store["inputs_embeds"])
    store["greedy_ids"] = torch.tensor(continuation)
    tensors = {f"out.{prefix}{name}": tensor for name, tensor in store.items()}
    return tensors | {f"in.{prefix}input_ids": ids, f"in.{prefix}pixel_values": pixels}, (continuation, lead)


def vicuna(images, question):
    return f"{SYSTEM} USER: " + "<image>\n" * images + f"{question} ASSISTANT:"


def cases(model, coder, prompts, settings):
    """A prompt with one image, and one with two."""
    one, first = run(model, expand(coder, prompts[0], [PATCHES]), pixels_of(settings, IMAGES[:1]), "")
    two, second = run(model, expand(coder, prompts[1], [PATCHES] * 2), pixels_of(settings, IMAGES), "two.")
    return one | two, [first, second]


def expected(folder, tensors, found, coder, seed, prompts, **more):
    names = ("prompt", "two.prompt")
    meta = metadata(seed, images=as_json(IMAGES), **dict(zip(names, prompts)), **more)
    for prefix, (ids, lead) in zip(("", "two."), found):
        meta[f"{prefix}greedy_text"] = coder.decode(ids, skip_special_tokens=False)
        meta[f"{prefix}greedy_lead"] = f"{lead:.4f}"
    save_tensors(folder / "expected.safetensors", tensors, meta)


def model_and_seed():
    """The first seed whose four continuations (crop and pad, one and two images) are all free of near ties."""
    folder = MODELS / "llava-1.5"
    coder = tokenizer.save(folder, template=tokenizer.LLAVA)
    conversations = [messages(1, QUESTION), messages(2, TWO_QUESTION)]
    prompts = [render(folder, conversation) for conversation in conversations]
    plain = [vicuna(1, QUESTION), vicuna(2, TWO_QUESTION)]
    for seed in range(FIRST_SEED, FIRST_SEED + 60):
        model = build(LlavaForConditionalGeneration, hf_config(), seed, torch.float16)
        cropped = cases(model, coder, prompts, CROP)
        if fair(cropped[1]):
            padded = cases(model, coder, plain, PAD)
            if fair(padded[1]):
                return model, seed, coder, (prompts, conversations, cropped), (plain, padded)
    raise RuntimeError("llava-1.5: no seed gives four continuations without near ties")


def hugging_face_folder(name, config, stored):
    folder = MODELS / name
    tokenizer.save(folder, template=tokenizer.LLAVA)
    save_json(folder / "config.json", config)
    save_json(folder / "preprocessor_config.json", CROP)
    save_checkpoint(folder, stored)
    return folder


def original_folder(name, stored, tower):
    folder = MODELS / name
    tokenizer.save(folder, template=tokenizer.LLAVA, image_token=False)
    save_json(folder / "config.json", layouts.original_config(TEXT, "vision_tower", VISION["hidden_size"]))
    save_json(folder / "vision_tower" / "config.json", VISION | {"architectures": ["CLIPVisionModel"]})
    save_json(folder / "vision_tower" / "preprocessor_config.json", preprocessor(SIDE, "CLIPImageProcessor"))
    if tower:
        # As liuhaotian/llava-v1.5-7b and openai/clip-vit-large-patch14-336 are published.
        save_pickled(folder, stored, shards=2)
        projector = {name: tensor for name, tensor in stored.items() if name.startswith("model.mm_projector.")}
        torch.save(projector, folder / "mm_projector.bin")
        save_pickled(folder / "vision_tower", tower)
    else:
        save_checkpoint(folder, stored)
    return folder


def reload_agrees(folder, tensors):
    model, info = LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    with torch.no_grad():
        logits = model(input_ids=tensors["in.input_ids"], pixel_values=tensors["in.pixel_values"]).logits
    error = (logits - tensors["out.logits"]).abs().max()
    assert error < 1e-6, f"{folder.name}: reloaded logits differ by {error}"


def make():
    """All five folders."""
    model, seed, coder, (prompts, conversations, cropped), (plain, padded) = model_and_seed()
    stored = checkpoint(model, torch.float16)
    folder = hugging_face_folder("llava-1.5", CONFIG, layouts.published(stored))
    turns = {"messages": as_json(conversations[0]), "two.messages": as_json(conversations[1])}
    expected(folder, *cropped, coder, seed, prompts, **turns)
    reload_agrees(folder, cropped[0])
    newer = layouts.version_5_config(CONFIG)
    hugging_face_folder("llava-1.5-v5", newer, stored)
    hugging_face_folder("llava-1.5-v5-flat", newer, layouts.flat_tower(stored))
    folder = original_folder("llava-original", layouts.original(stored), layouts.tower(stored))
    expected(folder, *padded, coder, seed, plain)
    embedded = layouts.original(stored, tower_prefix="model.vision_tower.vision_tower.")
    original_folder("llava-original-embedded", embedded, None)
    return model, coder
