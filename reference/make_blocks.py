"""Quantised blocks of random bits and what gguf-py makes of them -> fixtures/gguf/random-blocks.*

Every bit pattern is a valid block as long as its f16 scales are finite, so random bits reach each shift and mask, which the output
of a quantiser does not promise. The file is written by gguf-py, with metadata of every type.

pip install gguf==0.19.0 numpy==2.4.6 safetensors==0.8.0
python make_blocks.py
"""

import pathlib

import gguf
import numpy
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

ROWS, COLUMNS = 3, 512
# Where a block's f16 scales are, in bytes.
SCALES = {
    Type.F16: None, Type.BF16: None, Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}


def random_blocks(rng, kind):
    length, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * COLUMNS // length, size), dtype=numpy.uint8)
    if SCALES[kind] is None:
        values = rng.standard_normal(len(blocks)).astype(numpy.float32)
        blocks = values.astype(numpy.float16).view(numpy.uint8) if kind == Type.F16 else gguf.quants.quantize(values, kind)
        return blocks.reshape(ROWS, -1)
    for at in SCALES[kind]:
        # Both signs, subnormals too; never an infinity or a NaN.
        scale = (rng.standard_normal(len(blocks)) * 10.0 ** rng.uniform(-7, 1, len(blocks))).astype(numpy.float16)
        blocks[:, at : at + 2] = scale.view(numpy.uint8).reshape(-1, 2)
    return blocks.reshape(ROWS, -1)


def main():
    rng = numpy.random.default_rng(11)
    folder = pathlib.Path(__file__).parent.parent / "fixtures" / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(folder / "random-blocks.gguf", "blocks")
    writer.add_uint8("test.uint8", 255)
    writer.add_int8("test.int8", -128)
    writer.add_uint16("test.uint16", 65535)
    writer.add_int16("test.int16", -32768)
    writer.add_uint32("test.uint32", 4294967295)
    writer.add_int32("test.int32", -2147483648)
    writer.add_uint64("test.uint64", 18446744073709551615)
    writer.add_int64("test.int64", -9223372036854775808)
    writer.add_float32("test.float32", 0.1)
    writer.add_float64("test.float64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "vu à l’œil 👁")
    writer.add_array("test.integers", [3, -1, 4])
    writer.add_array("test.floats", [0.5, -1.5])
    writer.add_array("test.strings", ["", "a", "é"])
    expected = {}
    for kind in SCALES:
        data = random_blocks(rng, kind)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        expected[kind.name] = gguf.quants.dequantize(data, kind).astype(numpy.float32).reshape(ROWS, COLUMNS)
    plain = rng.standard_normal((2, 3, 5)).astype(numpy.float32)
    writer.add_tensor("F32", plain)
    expected["F32"] = plain
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert all(numpy.isfinite(values).all() for values in expected.values())
    about = {"gguf": "0.19.0", "numpy": numpy.__version__, "seed": "11", "tolerance": "0", "script": "reference/make_blocks.py"}
    save_file(expected, folder / "random-blocks.expected.safetensors", about)
    for path in sorted(folder.glob("random-blocks*")):
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
