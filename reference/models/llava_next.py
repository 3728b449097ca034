"""LLaVA-NeXT (CLIP + Mistral) in the published layout: any-resolution tiles, unpadding, the newline embedding."""

import torch
from transformers import CLIPVisionConfig, LlavaNextConfig, LlavaNextForConditionalGeneration, MistralConfig
from transformers.models.llava_next.image_processing_llava_next import LlavaNextImageProcessor
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

from . import layouts, tokenizer
from .common import MODELS, capture, checkpoint, metadata, save_checkpoint, save_json, save_tensors
from .llava import TEXT as LLAMA
from .llava import VISION as CLIP
from .multimodal import (
    QUESTION,
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

SIDE, GRID = 28, 4
FIRST_SEED = 4000
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
LAST = 8  # positions of which the logits are stored

# Case -> images of the prompt, in order.
CASES = {
    "square": ["grey.png"],
    "photo": ["cat.png"],
    "wide": ["coffee-wide.png"],
    "tall": ["rocket-tall.png"],
    "small": ["icon.png"],
    "two": ["coffee-wide.png", "cat.png"],
}

TEXT = {key: value for key, value in LLAMA.items() if key not in ("attention_bias", "mlp_bias", "rope_scaling")} | {
    "architectures": ["MistralForCausalLM"],
    "hidden_size": 40,
    "intermediate_size": 64,
    "model_type": "mistral",
    "sliding_window": None,
}

CONFIG = {
    "architectures": ["LlavaNextForConditionalGeneration"],
    "ignore_index": -100,
    "image_grid_pinpoints": PINPOINTS,
    "image_seq_length": GRID * GRID,
    "image_token_index": tokenizer.IMAGE,
    "model_type": "llava_next",
    "multimodal_projector_bias": True,
    "projector_hidden_act": "gelu",
    "text_config": TEXT,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_image_newline_parameter": True,
    "vision_config": CLIP,
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
}

SETTINGS = preprocessor(
    SIDE,
    "LlavaNextImageProcessor",
    aspect_ratio_setting="anyres",
    do_pad=True,
    image_grid_pinpoints=PINPOINTS,
    processor_class="LlavaNextProcessor",
)


def hf_config():
    text = {k: v for k, v in TEXT.items() if k not in ("architectures", "model_type", "torch_dtype")}
    return LlavaNextConfig(
        vision_config=CLIPVisionConfig(**{k: v for k, v in CLIP.items() if k != "model_type"}),
        text_config=MistralConfig(**text),
        image_token_index=tokenizer.IMAGE,
        image_grid_pinpoints=PINPOINTS,
        image_seq_length=GRID * GRID,
        tie_word_embeddings=False,
    )


def image_processor():
    skip = ("image_processor_type", "processor_class", "aspect_ratio_setting")
    return LlavaNextImageProcessor(**{k: v for k, v in SETTINGS.items() if k not in skip})


def promised_tokens(height, width):
    """The number of placeholders that transformers' own processor would write for an image of this size."""
    processor = LlavaNextProcessor.__new__(LlavaNextProcessor)
    processor.image_processor, processor.patch_size = image_processor(), SIDE // GRID
    processor.num_additional_image_tokens = 1
    return processor._get_number_of_features(height, width, SIDE, SIDE) - 1


@torch.no_grad()
def run(model, coder, prompt, names, case):
    """One prompt through the whole model; the splice by hand must match transformers' own."""
    batch = image_processor()([photo(name) for name in names], return_tensors="pt")
    pixels, sizes = batch["pixel_values"], batch["image_sizes"]
    store = {}
    handle = capture(model.model.multi_modal_projector, store, "tile_features")
    features = model.model.get_image_features(pixels, sizes)
    handle.remove()
    counts = [len(feature) for feature in features]
    assert counts == [promised_tokens(*size) for size in sizes.tolist()], f"{case}: {counts}"
    ids = expand(coder, prompt, counts)
    embeds = splice(model, ids, torch.cat(list(features)))
    result = model(input_ids=ids, pixel_values=pixels, image_sizes=sizes, use_cache=False, output_hidden_states=True)
    assert torch.equal(embeds, result.hidden_states[0])
    continuation, lead = decode(model, embeds)
    store |= {f"image_features.{index}": feature for index, feature in enumerate(features)}
    store["last_hidden_state"] = result.hidden_states[-1]
    store["logits"] = result.logits[:, -LAST:]
    store["greedy_ids"] = torch.tensor(continuation)
    tensors = {f"out.{case}.{name}": tensor for name, tensor in store.items()}
    tensors |= {
        f"in.{case}.input_ids": ids,
        f"in.{case}.pixel_values": pixels,
        f"in.{case}.image_sizes": sizes.to(torch.int64),
    }
    return tensors, (continuation, lead)


def reload_agrees(folder, tensors):
    model, info = LlavaNextForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    with torch.no_grad():
        logits = model(
            input_ids=tensors["in.two.input_ids"],
            pixel_values=tensors["in.two.pixel_values"],
            image_sizes=tensors["in.two.image_sizes"],
        ).logits[:, -LAST:]
    error = (logits - tensors["out.two.logits"]).abs().max()
    assert error < 1e-6, f"{folder.name}: reloaded logits differ by {error}"


def make():
    folder = MODELS / "llava-next"
    coder = tokenizer.save(folder, template=tokenizer.LLAVA)
    prompts = {
        case: render(folder, messages(len(names), QUESTION if len(names) == 1 else TWO_QUESTION))
        for case, names in CASES.items()
    }
    for seed in range(FIRST_SEED, FIRST_SEED + 100):
        model = build(LlavaNextForConditionalGeneration, hf_config(), seed, torch.float16)
        tensors, meta = {}, metadata(seed, cases=as_json(CASES))
        for case, names in CASES.items():
            found, continuation = run(model, coder, prompts[case], names, case)
            if not fair([continuation]):
                break
            tensors |= found
            meta[f"{case}.prompt"] = prompts[case]
            meta[f"{case}.greedy_text"] = coder.decode(continuation[0], skip_special_tokens=False)
            meta[f"{case}.greedy_lead"] = f"{continuation[1]:.4f}"
        else:
            break
    else:
        raise RuntimeError("llava-next: no seed gives continuations without near ties")
    save_json(folder / "config.json", CONFIG)
    save_json(folder / "preprocessor_config.json", SETTINGS)
    save_checkpoint(folder, layouts.published(checkpoint(model, torch.float16)))
    save_tensors(folder / "expected.safetensors", tensors, meta)
    reload_agrees(folder, tensors)
