"""A tiny byte-level BPE with chat templates, so that a fixture folder reads like a published one.

Pre-tokenisation is GPT-2's (`tokenizer.ggml.pre` = `gpt-2`). Ids: 0 <pad>, 1 <s>, 2 </s>, 3 <|im_start|>, 4 <|im_end|>,
5 <image>, then the 256 bytes, then the merges.
"""

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from .common import save_json

VOCABULARY = 384
PAD, BOS, EOS, IM_START, IM_END, IMAGE = range(6)
SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<image>"]

_CORPUS = [
    "The quick eye moves to the place where the detail is, and the rest of the picture stays coarse.",
    "How many apples are on the table? There are three apples and one pear on the wooden table.",
    "What colour is the small square in the top left corner? The square is red, and the circle is blue.",
    "A chat between a curious user and an artificial intelligence assistant. The assistant answers politely.",
    "USER: What is in this image? ASSISTANT: The image shows a cat that sits on a mat beside the window.",
    "for index in range(10): print(index, value[index]) # 3.14159, 2024-11-22, 1,000,000",
    "Read the text in the image: the sign says open from nine to five. Which one is larger? The first one.",
    "user system assistant question answer image picture colour number count where which what",
]

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# The turn words of LLaVA-1.5 as the Hugging Face checkpoints write them: no system sentence.
LLAVA = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + ' ' }}{% else %}"
    "{{ message['role'] | upper + ': ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ ' ' }}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def build(image_token=True):
    """Train the tokenizer; without `image_token` the id of <image> belongs to an unused token (original LLaVA)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = SPECIAL if image_token else SPECIAL[:-1] + ["<unused>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    return tokenizer


def save(folder, template=CHATML, image_token=True, template_file=False):
    """Write tokenizer.json and tokenizer_config.json; the template goes inside the latter or into its own file."""
    tokenizer = build(image_token)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False) + "\n")
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>" if template != CHATML else "<|im_end|>",
        "pad_token": "<pad>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    if template_file:
        (folder / "chat_template.jinja").write_text(template)
    else:
        config["chat_template"] = template
    save_json(folder / "tokenizer_config.json", config)
    return tokenizer


def merges_and_tokens(tokenizer):
    """The vocabulary in id order and the merges as `a b` lines, as GGUF stores them."""
    data = json.loads(tokenizer.to_str())["model"]
    by_id = {index: token for token, index in data["vocab"].items()}
    for index, token in enumerate(SPECIAL):
        by_id[index] = token
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in data["merges"]]
    return [by_id[index] for index in range(VOCABULARY)], merges
