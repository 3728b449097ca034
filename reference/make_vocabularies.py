"""Small vocabularies in GGUF, one for each kind of tokenizer, and their token ids -> fixtures/gguf-tokenizers/

The byte-level ones are trained and run by the Python `tokenizers` package with the pipelines of the published tokenizer.json files of
GPT-2, Llama 3 and Qwen2; the SentencePiece one by `sentencepiece` with Llama's settings. The text is every fourth line of
fixtures/smollm2-tokens.json.

pip install gguf==0.19.0 tokenizers==0.23.3 sentencepiece==0.2.3
python make_vocabularies.py
"""

import io
import json
import pathlib

import gguf
import sentencepiece
import tokenizers
from gguf import TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
FOLDER = FIXTURES / "gguf-tokenizers"
SIZE = 900
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "llama-bpe": rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{REST}",
    "qwen2": rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{REST}",
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_level(pre, lines):
    tokenizer = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    if pre == "gpt-2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(PATTERNS[pre]), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=SIZE, special_tokens=special, initial_alphabet=alphabet, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer = gguf.GGUFWriter(FOLDER / f"{pre}.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    finish(writer)
    # Llama 3 files start with the beginning token unless they say otherwise.
    lead = [0] if pre == "llama-bpe" else []
    return [lead + tokenizer.encode(line).ids for line in lines]


def sentence_piece(lines):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=SIZE, byte_fallback=True, split_digits=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, character_coverage=0.98,
        unk_surface=" ⁇ ", minloglevel=2, num_threads=1,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(processor.vocab_size())
    writer = gguf.GGUFWriter(FOLDER / "llama.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([processor.id_to_piece(index) for index in ids])
    writer.add_token_scores([processor.get_score(index) for index in ids])
    kinds = [
        TokenType.UNKNOWN if processor.is_unknown(index) else TokenType.CONTROL if processor.is_control(index)
        else TokenType.BYTE if processor.is_byte(index) else TokenType.NORMAL for index in ids
    ]
    writer.add_token_types(kinds)
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    finish(writer)
    return [processor.encode(line, add_bos=True) for line in lines]


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    FOLDER.mkdir(exist_ok=True)
    rows = json.loads((FIXTURES / "smollm2-tokens.json").read_text())["lines"]
    # Line breaks are not text to the trainer of SentencePiece; special tokens are left to the other fixture.
    lines = [text for text, _ in rows[::4] if "<|" not in text and "\n" not in text and "\r" not in text and "\0" not in text]
    about = {"tokenizers": tokenizers.__version__, "sentencepiece": sentencepiece.__version__, "gguf": "0.19.0", "script": "reference/make_vocabularies.py"}
    expected = {"llama": sentence_piece(lines)} | {pre: byte_level(pre, lines) for pre in ("gpt-2", "llama-bpe", "qwen2")}
    out = {"about": about, "lines": lines, "ids": expected}
    (FOLDER / "expected.json").write_text(json.dumps(out, separators=(",", ":")).replace("],[", "],\n[") + "\n")
    for path in sorted(FOLDER.iterdir()):
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
