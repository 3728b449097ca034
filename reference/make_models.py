"""Make the tiny random checkpoints and their outputs: fixtures/models/<name>.

    python reference/make_models.py            all of them
    python reference/make_models.py clip phi3  only these

Versions are pinned in requirements.txt. Running twice on one machine gives identical files.
"""

import shutil
import sys
from functools import partial

from models import common, llm, vision

MAKERS = {name: partial(llm.make, name) for name in llm.configs()} | vision.MAKERS


def main(names):
    unknown = [name for name in names if name not in MAKERS]
    if unknown:
        sys.exit(f"unknown fixture {', '.join(unknown)}; there are: {', '.join(MAKERS)}")
    for name in names or MAKERS:
        shutil.rmtree(common.MODELS / name, ignore_errors=True)
        MAKERS[name]()
        size = sum(file.stat().st_size for file in (common.MODELS / name).rglob("*") if file.is_file())
        print(f"{name:24} {size / 1024:8.0f} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
