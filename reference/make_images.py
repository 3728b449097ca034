"""Make fixtures/images: small photographs in every format that is read, and what the processors make of them.

    python reference/make_images.py

The expected values are those of the Pillow ("slow") image processors of transformers, read before rescaling, so they
are whole levels 0..255. `photos()` cuts the photographs from scikit-image's samples; licences stand in the README.
"""

import io

import numpy as np
import torch
from PIL import Image, ImageOps
from skimage import data
from transformers import BitImageProcessor, CLIPImageProcessor, SiglipImageProcessor
from transformers.models.llava.image_processing_llava import LlavaImageProcessor
from transformers.models.llava_next.image_processing_llava_next import LlavaNextImageProcessor

from models.common import FIXTURES, metadata, save_json, save_tensors

FOLDER = FIXTURES / "images"

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
STEPS = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "resample": 3,
    "rescale_factor": 1 / 255,
}


def square(side):
    return {"height": side, "width": side}


def clip(side, **more):
    return STEPS | CLIP | {"size": {"shortest_edge": side}, "crop_size": square(side), "do_center_crop": True} | more


def processors():
    """Name -> preprocessor_config.json. `_56` variants are small; the plain ones have the published sizes."""
    siglip = STEPS | HALF
    dinov2 = STEPS | IMAGENET | {"do_center_crop": True, "image_processor_type": "BitImageProcessor"}
    next_56 = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
    return {
        "clip_56": clip(56, image_processor_type="CLIPImageProcessor"),
        "clip_224": clip(224, image_processor_type="CLIPImageProcessor"),
        "clip_336": clip(336, image_processor_type="CLIPImageProcessor"),
        "siglip_56": siglip | {"size": square(56), "image_processor_type": "SiglipImageProcessor"},
        "siglip_224": siglip | {"size": square(224), "image_processor_type": "SiglipImageProcessor"},
        "dinov2_56": dinov2 | {"size": {"shortest_edge": 64}, "crop_size": square(56)},
        "dinov2_224": dinov2 | {"size": {"shortest_edge": 256}, "crop_size": square(224)},
        "llava_pad_56": clip(56, image_processor_type="LlavaImageProcessor", do_pad=True),
        "llava_pad_336": clip(336, image_processor_type="LlavaImageProcessor", do_pad=True),
        "llava_next_56": clip(
            56, image_processor_type="LlavaNextImageProcessor", do_pad=True, image_grid_pinpoints=next_56
        ),
    }


CLASSES = {
    "BitImageProcessor": BitImageProcessor,
    "CLIPImageProcessor": CLIPImageProcessor,
    "LlavaImageProcessor": LlavaImageProcessor,
    "LlavaNextImageProcessor": LlavaNextImageProcessor,
    "SiglipImageProcessor": SiglipImageProcessor,
}


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def with_orientation(image, orientation):
    """JPEG bytes whose EXIF orientation asks the reader to turn the picture back upright."""
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = image if undo is None else image.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored, format="JPEG", quality=92, subsampling=0, exif=exif)


def photos():
    """File name -> bytes. Sides are odd on purpose, so that every rounding rule is exercised."""
    cat = Image.fromarray(data.chelsea()).crop((60, 0, 420, 300))
    astronaut = Image.fromarray(data.astronaut())
    coffee = Image.fromarray(data.coffee())
    rocket = Image.fromarray(data.rocket())
    camera = Image.fromarray(data.camera())
    small_cat = cat.resize((121, 101), Image.LANCZOS)
    alpha = small_cat.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(small_cat.size))
    face = astronaut.crop((110, 0, 390, 280))
    frames = [small_cat.quantize(64), small_cat.transpose(Image.FLIP_LEFT_RIGHT).quantize(64)]
    return {
        "cat.png": encoded(cat.resize((157, 131), Image.LANCZOS), format="PNG", optimize=True),
        "rocket-tall.png": encoded(rocket.crop((255, 20, 385, 427)).resize((71, 223), Image.LANCZOS), format="PNG"),
        "coffee-wide.png": encoded(coffee.crop((0, 120, 600, 290)).resize((251, 71), Image.LANCZOS), format="PNG"),
        "icon.png": encoded(face.resize((33, 19), Image.LANCZOS), format="PNG"),
        "grey.png": encoded(camera.resize((151, 149), Image.LANCZOS), format="PNG"),
        "alpha.png": encoded(alpha, format="PNG"),
        "palette.png": encoded(small_cat.quantize(32), format="PNG"),
        "astronaut-444.jpg": encoded(face.resize((233, 217), Image.LANCZOS), format="JPEG", quality=90, subsampling=0),
        "astronaut-420.jpg": encoded(face.resize((233, 217), Image.LANCZOS), format="JPEG", quality=85, subsampling=2),
        "astronaut-progressive.jpg": encoded(
            astronaut.resize((199, 201), Image.LANCZOS), format="JPEG", quality=85, subsampling=0, progressive=True
        ),
        "grey.jpg": encoded(camera.resize((151, 149), Image.LANCZOS), format="JPEG", quality=85),
        "coffee-orientation-6.jpg": with_orientation(coffee.resize((211, 141), Image.LANCZOS), 6),
        "coffee-lossy.webp": encoded(coffee.resize((181, 121), Image.LANCZOS), format="WEBP", quality=80),
        "cat-lossless.webp": encoded(small_cat, format="WEBP", lossless=True),
        "cat-two-frames.gif": encoded(frames[0], format="GIF", save_all=True, append_images=frames[1:], duration=200),
        "coffee.bmp": encoded(coffee.resize((123, 82), Image.LANCZOS), format="BMP"),
    }


def load(raw):
    """As transformers' `load_image`: upright by EXIF, then RGB (alpha dropped, not blended)."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(raw))).convert("RGB")


def planes(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def run(config, image, levels):
    """One image through one processor: [tiles, 3, h, w] or [3, h, w]; `levels` stops before rescaling."""
    keys = {key: value for key, value in config.items() if key != "image_processor_type"}
    processor = CLASSES[config["image_processor_type"]](**keys)
    options = {"do_rescale": False, "do_normalize": False} if levels else {}
    found = processor(image, return_tensors="np", **options)
    pixels = found["pixel_values"][0]
    if not levels:
        return torch.from_numpy(np.ascontiguousarray(pixels.astype(np.float32)))
    whole = np.rint(pixels)
    assert np.array_equal(whole, pixels) and whole.min() >= 0 and whole.max() <= 255
    return torch.from_numpy(np.ascontiguousarray(whole.astype(np.uint8)))


# Full-size runs are few, and so are normalised ones: they add bytes, not coverage.
FULL = {
    "clip_224": ["astronaut-444.jpg"],
    "clip_336": ["cat.png"],
    "siglip_224": ["cat.png"],
    "dinov2_224": ["coffee-wide.png"],
    "llava_pad_336": ["rocket-tall.png"],
}
NORMALISED = ["clip_56", "siglip_56", "dinov2_56", "llava_pad_56"]


def orientations(files):
    """Eight tiny JPEGs, one for each EXIF orientation, and their upright pixels."""
    upright = Image.fromarray(data.coffee()).resize((24, 16), Image.LANCZOS)
    tensors = {}
    for orientation in range(1, 9):
        name = f"orientation-{orientation}.jpg"
        files[name] = with_orientation(upright, orientation)
        tensors[f"decoded/{name}"] = planes(load(files[name]))
        difference = (tensors[f"decoded/{name}"].int() - planes(upright).int()).abs().float().mean()
        assert difference < 6, f"{name} is not upright: mean difference {difference}"
    return tensors


def main():
    files, configs = photos(), processors()
    tensors = {}
    for name, raw in files.items():
        assert len(raw) <= 60 * 1024, f"{name}: {len(raw)} bytes"
        image = load(raw)
        for processor, config in configs.items():
            if name in FULL.get(processor, [name] if processor.endswith("_56") else []):
                tensors[f"{processor}/{name}"] = run(config, image, levels=True)
        if name.endswith((".jpg", ".webp", ".gif", ".bmp")) or name in ("alpha.png", "palette.png", "grey.png"):
            (FOLDER / "decoded").mkdir(parents=True, exist_ok=True)
            image.save(FOLDER / "decoded" / f"{name}.png", optimize=True)
    for processor in NORMALISED:
        tensors[f"normalised/{processor}/cat.png"] = run(configs[processor], load(files["cat.png"]), levels=False)
    tensors |= orientations(files)
    for name, raw in files.items():
        (FOLDER / name).write_bytes(raw)
    save_json(FOLDER / "processors.json", configs)
    meta = metadata(0, tolerance="1 level; normalised 1e-6", pillow=Image.__version__)
    save_tensors(FOLDER / "expected.safetensors", tensors, meta)


if __name__ == "__main__":
    main()
