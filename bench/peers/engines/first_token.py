"""A peer's shortest program: load a model, read a prompt of random tokens, print the most probable next one.

    python first_token.py llama.cpp FILE.gguf --tokens 30 --threads 2
    python first_token.py make FOLDER
    python first_token.py transformers FOLDER --tokens 30 --threads 2

`make` writes the folder that transformers loads: SmolLM2-135M's shape with random weights in bf16.
"""

import argparse


def llama_cpp(path, tokens, threads):
    from llama_worker import Reader

    case = {"model": path, "threads": threads, "flash_attention": True, "micro_batch": 512}
    reader = Reader(case)
    return reader.read(reader.random(tokens))


def transformers(folder, tokens, threads):
    import torch
    from transformers import LlamaForCausalLM

    torch.set_num_threads(threads)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    with torch.inference_mode():
        return int(model(torch.arange(1000, 1000 + tokens)[None], logits_to_keep=1).logits[0, -1].argmax())


def make(folder, tokens, threads):
    import torch

    import shapes

    shapes.llm("smollm2-135m").to(torch.bfloat16).save_pretrained(folder)
    return folder


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("engine", choices=("llama.cpp", "transformers", "make"))
    arguments.add_argument("model")
    arguments.add_argument("--tokens", type=int, default=30)
    arguments.add_argument("--threads", type=int, default=2)
    chosen = arguments.parse_args()
    engine = {"llama.cpp": llama_cpp, "transformers": transformers, "make": make}[chosen.engine]
    print(engine(chosen.model, chosen.tokens, chosen.threads), flush=True)


if __name__ == "__main__":
    main()
