"""Make fixtures/jpegs.json: small JPEG files of every kind Pillow writes, with a checksum of the pixels it reads back.

    python reference/make_jpegs.py
"""

import io
import json
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "fixtures" / "jpegs.json"
SIZES = [(1, 1), (2, 3), (3, 9), (4, 8), (5, 17), (6, 2), (16, 16), (17, 15), (33, 31)]
KINDS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def pictures():
    """A photograph where smooth samples matter, noise where the clipping does."""
    noise = np.random.default_rng(11)
    cat = Image.open(ROOT / "fixtures" / "images" / "cat.png").convert("RGB")
    for number, (width, height) in enumerate(SIZES):
        if number % 2:
            yield Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8))
        else:
            yield cat.resize((width, height), Image.LANCZOS)


def main():
    files = []

    def add(name, picture, **options):
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", **options)
        pixels = np.array(Image.open(buffer).convert("RGB"))
        size = list(picture.size)
        files.append({"name": name, "size": size, "crc32": zlib.crc32(pixels.tobytes()), "hex": buffer.getvalue().hex()})

    for number, picture in enumerate(pictures()):
        size = "x".join(map(str, picture.size))
        for kind, subsampling in KINDS.items():
            for progressive in (False, True):
                restart = {"restart_marker_blocks": 1 + number % 3} if number % 3 == 2 else {}
                name = f"{size} {kind} {'progressive' if progressive else 'baseline'} {restart or ''}".strip()
                quality = (35, 75, 95)[(number + subsampling) % 3]
                options = {"quality": quality, "subsampling": subsampling, "progressive": progressive, "optimize": True}
                add(name, picture, **options, **restart)
        if number % 2 == 0:
            add(f"{size} grey", picture.convert("L"), quality=60, optimize=True)
            add(f"{size} RGB kept", picture, quality=60, keep_rgb=True, optimize=True)
    versions = {"pillow": PIL.__version__, "libjpeg_turbo": features.version("libjpeg_turbo")}
    lines = json.dumps(versions | {"files": files}).replace('{"name"', '\n{"name"')
    OUT.write_text(lines + "\n")
    print(len(files), "files", OUT.stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    main()
