"""Two wheels of a few hundred bytes that hold a `model`: one sound, one whose RECORD has another hash -> fixtures/wheels/

    python reference/make_wheel.py
"""

import base64
import hashlib
import pathlib
import zipfile

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "wheels"
CONTENT = b"GGUF, as far as its name goes"


def record(name, content):
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


def wheel(version, claimed):
    project = f"foveate_test-{version}"
    listed = f"{project}.dist-info/RECORD"
    with zipfile.ZipFile(FOLDER / f"{project}-py3-none-any.whl", "w") as file:
        for name, content in (
            ("foveate_test/model.gguf", CONTENT),
            (listed, (record("foveate_test/model.gguf", claimed) + f"{listed},,\n").encode()),
        ):
            # A fixed time: the same bytes whenever this runs.
            file.writestr(zipfile.ZipInfo(name), content)


def main():
    FOLDER.mkdir(exist_ok=True)
    wheel("1.0", CONTENT)
    wheel("2.0", CONTENT.upper())
    for path in sorted(FOLDER.iterdir()):
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
