"""A SentencePiece vocabulary as Llama's, its tokens under transformers, and an answer of `llava-original` through it
-> fixtures/sentencepiece/{tokenizer.model,tokenizer_config.json,expected.json}

    python reference/make_sentencepiece.py

Run make_images.py, make_models.py and make_tokens.py first. Token ids come from the slow LlamaTokenizer of transformers, which
runs `sentencepiece` itself; the answer from transformers' LLaVA, with the prompt cut at its images as the original code does.
"""

import io
import json

import sentencepiece
import torch
import transformers
from tokenizers import decoders
from transformers import LlamaTokenizer, LlavaForConditionalGeneration

from models import common, llava, multimodal, tokenizer

FOLDER = common.FIXTURES / "sentencepiece"
SIZE = tokenizer.VOCABULARY
# One token beyond the vocabulary, as fine-tuned checkpoints add them.
PAD = "[PAD]"
SPECIAL_LINES = [
    "</s>",
    "a</s>b",
    "USER: Hi ASSISTANT: Hello.</s>USER: And now? ASSISTANT:",
    "<s>twice",
    " leading and  double  spaces ",
    "",
    "[PAD][PAD] padded",
    "\nline\n\nbreaks\t",
    "▁ is an underscore of its own",
]
NOUNS = ["square", "circle", "picture", "table", "apple", "image", "window", "text", "number", "cat", "place", "mat", "sign", "pear"]
COLOURS = ["red", "blue", "green", "small", "large", "wooden", "left", "right", "first", "last", "quick", "open"]


def train(lines):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=SIZE, byte_fallback=True, split_digits=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, character_coverage=0.98,
        unk_surface=" ⁇ ", minloglevel=2, num_threads=1,
    )
    (FOLDER / "tokenizer.model").write_bytes(model.getvalue())


def coder(legacy):
    return LlamaTokenizer(str(FOLDER / "tokenizer.model"), legacy=legacy, pad_token=PAD)


def save_config(slow):
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(index): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
            for token, index in sorted(slow.added_tokens_encoder.items(), key=lambda pair: pair[1])
        },
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "legacy": False,
        "model_max_length": 2048,
        "pad_token": PAD,
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
    }
    common.save_json(FOLDER / "tokenizer_config.json", config)


def written(slow, ids):
    """Text as the fast tokenizers decode it: a run of byte tokens that is not UTF-8 gives a sign of replacement for each byte,
    where `sentencepiece` keeps the whole characters of the run."""
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    return decoders.Sequence(steps).decode(slow.convert_ids_to_tokens(ids))


@torch.no_grad()
def answer(slow):
    """Of the questions whose answer of 12 tokens has no near tie the one whose answer is text for the most part."""
    model = LlavaForConditionalGeneration.from_pretrained(common.MODELS / "llava-1.5", dtype=torch.float32, attn_implementation="eager").eval()
    pixels = llava.pixels_of(llava.PAD, llava.IMAGES[:1])
    features = model.get_image_features(pixels)[0]
    answers = []
    for question in [f"Is the {colour} {noun} there?" for noun in NOUNS for colour in COLOURS]:
        before, after = llava.vicuna(1, question).split("<image>")
        # Both parts are encoded with the beginning token, which only the first keeps.
        pieces = [slow(before).input_ids, slow(after).input_ids[1:]]
        ids = torch.tensor([pieces[0] + [tokenizer.IMAGE] * llava.PATCHES + pieces[1]])
        found, lead = multimodal.decode(model, multimodal.splice(model, ids, features), steps=12)
        if lead >= common.MIN_MARGIN / 5 and min(found) > 2:
            text = written(slow, found)
            answers.append({"question": question, "image": llava.IMAGES[0], "pieces": pieces, "ids": found, "text": text, "lead": round(lead, 4)})
    return min(answers, key=lambda answer: answer["text"].count("\ufffd"))


def main():
    FOLDER.mkdir(exist_ok=True)
    rows = json.loads((common.FIXTURES / "smollm2-tokens.json").read_text())["lines"]
    lines = [text for text, _ in rows[::40] if "<|" not in text and "\0" not in text]
    # Few signs, so that some of the vocabulary is left for longer pieces; the other lines then fall back to bytes.
    train([line for line in lines if line.isascii() and line.isprintable()] + tokenizer._CORPUS)
    new, old = coder(legacy=False), coder(legacy=True)
    save_config(new)
    lines += SPECIAL_LINES
    expected = {
        "about": {"sentencepiece": sentencepiece.__version__, "transformers": transformers.__version__, "script": "reference/make_sentencepiece.py"},
        "lines": lines,
        "ids": {"legacy": [old(line).input_ids for line in lines], "new": [new(line).input_ids for line in lines]},
        "answer": answer(new),
    }
    text = json.dumps(expected, separators=(",", ":")).replace("],[", "],\n[")
    (FOLDER / "expected.json").write_text(text + "\n")
    for path in sorted(FOLDER.iterdir()):
        print(path.name, path.stat().st_size)
    print(expected["answer"]["question"], repr(expected["answer"]["text"]))


if __name__ == "__main__":
    main()
