"""Make fixtures/perplexity.json: how likely a tiny language model holds each line of fixtures/text/held.txt.

    python reference/make_perplexity.py

Every token but the first of a line, special tokens included, given those before it; -ln p summed in float64.
"""

import json
import pathlib

import torch
import transformers

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
MODEL = "llama-tied"


def main():
    folder = FIXTURES / "models" / MODEL
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    documents = []
    for line in (FIXTURES / "text" / "held.txt").read_text(encoding="utf-8").splitlines():
        ids = tokenizer(line, return_tensors="pt").input_ids
        with torch.no_grad():
            scores = model(ids).logits[0, :-1].double()
        nats = torch.nn.functional.cross_entropy(scores, ids[0, 1:], reduction="sum").item()
        documents.append({"tokens": ids.shape[1] - 1, "nats": nats})
    about = {"model": MODEL, "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    (FIXTURES / "perplexity.json").write_text(json.dumps({**about, "documents": documents}, indent=1) + "\n")


if __name__ == "__main__":
    main()
