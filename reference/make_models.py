"""Make the tiny random checkpoints and their outputs: fixtures/models/<name>.

    python reference/make_images.py                 first: the multimodal fixtures look at its photographs
    python reference/make_models.py                 all of them
    python reference/make_models.py clip phi3       only these

Versions are pinned in requirements.txt. Running twice on one machine gives identical files.
"""

import shutil
import sys
from functools import partial

from models import common, compressed, llava, llava_next, llm, vision

# Maker -> the folders that it fills.
MAKERS = {name: (partial(llm.make, name), [name]) for name in llm.configs()}
MAKERS |= {name: (make, [name]) for name, make in vision.MAKERS.items()}
MAKERS["llava-1.5"] = (llava.make, llava.FOLDERS)
MAKERS["compressed"] = (compressed.make, compressed.FOLDERS)
MAKERS["llava-next"] = (llava_next.make, ["llava-next"])


def main(names):
    unknown = [name for name in names if name not in MAKERS]
    if unknown:
        sys.exit(f"unknown fixture {', '.join(unknown)}; there are: {', '.join(MAKERS)}")
    for name in names or MAKERS:
        make, folders = MAKERS[name]
        for folder in folders:
            shutil.rmtree(common.MODELS / folder, ignore_errors=True)
        make()
        for folder in folders:
            size = sum(file.stat().st_size for file in (common.MODELS / folder).rglob("*") if file.is_file())
            print(f"{folder:24} {size / 1024:8.0f} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
