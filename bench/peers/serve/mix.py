"""Requests of several lengths, every second one about a picture. Standard library only."""

import base64
import hashlib
import json
import random
import struct
import zlib
from dataclasses import dataclass

WORDS = "river stone window garden paper bridge candle forest mirror harbour winter engine".split()


@dataclass(frozen=True)
class Request:
    body: bytes
    key: str | None  # of the picture, for a proxy that sends equal pictures to one replica

    @property
    def headers(self):
        return {"X-Image-Key": self.key} if self.key else {}


def picture(seed, side=96):
    """A PNG of coloured squares, another one for each seed."""
    draw = random.Random(seed)
    colours = [[bytes(draw.randrange(256) for _ in range(3)) for _ in range(4)] for _ in range(4)]
    square = side // 4
    rows = b"".join(b"\0" + b"".join(colour * square for colour in line) for line in colours for _ in range(square))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def text(nth):
    return f"Write about the {WORDS[nth % len(WORDS)]}" + " and the stone" * (nth % 7) + "."


def request(model, text, new_tokens, image=None, **more):
    """A greedy question, about a PNG where one is given."""
    content, key = text, None
    if image:
        url = "data:image/png;base64," + base64.b64encode(image).decode()
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
        key = hashlib.sha256(image).hexdigest()
    body = {"model": model, "temperature": 0, "max_tokens": new_tokens, "messages": [{"role": "user", "content": content}]}
    return Request(json.dumps(body | more).encode(), key)


def mixed(model, count, new_tokens, images=True, streams=True, pictures=8):
    """Every second about one of `pictures` pictures, every other pair as a stream."""
    def nth(at):
        image = picture(at // 2 % pictures) if images and at % 2 else None
        stream = streams and at % 4 < 2
        return request(model, text(at), new_tokens, image, **({"stream": True} if stream else {}))

    return [nth(at) for at in range(count)]
