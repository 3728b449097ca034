"""Make fixtures/anyres.json: LLaVA-NeXT's choice of tiles and its unpadding, for many image sizes.

    python reference/make_anyres.py

Columns of a case: image height and width, best resolution, fitted size, first row and end of rows, first column and end
of columns that remain of the joined feature grid, and the tokens of the image.
"""

import json
import random
from pathlib import Path

import torch
import transformers
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.image_utils import ChannelDimension
from transformers.models.llava_next.modeling_llava_next import unpad_image
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

OUT = Path(__file__).resolve().parents[1] / "fixtures" / "anyres.json"

# name -> (tile side, features along a side, pinpoints as [height, width])
SETTINGS = {
    "llava-next": (336, 24, [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]),
    "odd grid": (42, 3, [[42 * rows, 42 * columns] for rows in range(1, 6) for columns in range(1, 6)]),
}


class Sized:
    """Stands for an image of this size."""

    def __init__(self, height, width):
        self.shape, self.ndim = (height, width, 3), 3


def sizes(seed):
    draw = random.Random(seed)
    edge = [(1, 1), (1, 65535), (65535, 1), (336, 336), (672, 672), (335, 337), (336, 671), (1009, 337), (480, 640)]
    return edge + [(round(10 ** draw.uniform(0.3, 3.6)), round(10 ** draw.uniform(0.3, 3.6))) for _ in range(150)]


def case(height, width, side, features, pinpoints):
    best = select_best_resolution((height, width), pinpoints)
    fitted = get_patch_output_size(Sized(height, width), best, ChannelDimension.LAST)
    rows, columns = best[0] // side * features, best[1] // side * features
    grid = torch.arange(rows * columns).reshape(1, rows, columns)
    left = unpad_image(grid, (height, width))[0]
    # An image of extreme aspect keeps nothing: then only the emptiness counts.
    row = [int(left[0, 0]) // columns, int(left[-1, 0]) // columns + 1] if left.numel() else [0, left.shape[0]]
    column = [int(left[0, 0]) % columns, int(left[0, -1]) % columns + 1] if left.numel() else [0, left.shape[1]]
    unpadded, newlines = LlavaNextProcessor._get_unpadded_features(
        None, height, width, features, features, best[0] // side, best[1] // side
    )
    assert unpadded == left.numel() and newlines == left.shape[0]
    return [height, width, *best, *fitted, *row, *column, features * features + unpadded + newlines]


def main():
    settings = []
    for seed, (name, (side, features, pinpoints)) in enumerate(SETTINGS.items()):
        cases = [case(*size, side, features, pinpoints) for size in sizes(seed)]
        settings.append({"name": name, "side": side, "features": features, "pinpoints": pinpoints, "cases": cases})
    lines = json.dumps({"transformers": transformers.__version__, "settings": settings}).replace("], [", "],\n[")
    OUT.write_text(lines + "\n")
    print(sum(len(setting["cases"]) for setting in settings), "cases", OUT.stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    main()
