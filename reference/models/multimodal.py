"""What the LLaVA builders share: prompts, splicing by hand, greedy decoding from embeddings, seed search."""

import json

import torch
from PIL import Image

from . import tokenizer
from .common import FIXTURES, randomise

QUESTION = "What colour is the small square?"
TWO_QUESTION = "Which image is larger?"

# Published preprocessor settings of CLIP, in small.
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def photo(name):
    """A photograph of fixtures/images (run make_images.py first); the folder's README has the licences."""
    return Image.open(FIXTURES / "images" / name).convert("RGB")


def preprocessor(side, kind, **more):
    return {
        "crop_size": {"height": side, "width": side},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": CLIP_MEAN,
        "image_processor_type": kind,
        "image_std": CLIP_STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": side},
    } | more


def messages(images, question):
    parts = [{"type": "image"}] * images + [{"type": "text", "text": question}]
    return [{"role": "user", "content": parts}]


def render(folder, conversation):
    """The prompt as the folder's own chat template writes it."""
    from transformers import AutoTokenizer

    coder = AutoTokenizer.from_pretrained(folder)
    return coder.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)


def expand(coder, prompt, counts):
    """Token ids of `prompt` with the n-th <image> repeated counts[n] times."""
    ids, seen = [], 0
    for token in coder.encode(prompt).ids:
        repeat = 1
        if token == tokenizer.IMAGE:
            repeat, seen = counts[seen], seen + 1
        ids += [token] * repeat
    assert seen == len(counts)
    return torch.tensor([ids])


def build(model_class, config, seed, dtype=torch.float32):
    """A random model whose output head never prefers a special token, so that greedy text runs its 32 steps."""
    model = randomise(model_class._from_config(config, attn_implementation="eager"), seed, dtype)
    with torch.no_grad():
        model.lm_head.weight[:6] = (model.lm_head.weight[:6] / 32).to(dtype).float()
    return model


@torch.no_grad()
def splice(model, ids, features):
    """Embedded prompt with the image features in place of the <image> tokens, in order."""
    embeds = model.get_input_embeddings()(ids).clone()
    where = ids[0] == tokenizer.IMAGE
    assert int(where.sum()) == len(features)
    embeds[0, where] = features
    return embeds


@torch.no_grad()
def decode(model, embeds, steps=32):
    """Greedy continuation of an embedded prompt, without a cache; returns ids and the smallest lead."""
    table, ids, lead = model.get_input_embeddings(), [], float("inf")
    for _ in range(steps):
        hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        row = model.lm_head(hidden[0, -1])
        best = torch.topk(row, 2).values
        lead = min(lead, float(best[0] - best[1]))
        ids.append(int(row.argmax()))
        embeds = torch.cat([embeds, table(torch.tensor([[ids[-1]]]))], dim=1)
    return ids, lead


def as_json(value):
    return json.dumps(value, ensure_ascii=False)


# Several continuations must be fair at once here; a lead of 50 tolerances is still no tie.
MIN_LEAD = 5e-3


def fair(found):
    return all(lead >= MIN_LEAD and len(set(ids)) >= 8 and min(ids) >= 6 for ids, lead in found)
