"""Make crates/data/assets/fonts: Latin subsets, as TrueType, of the fonts that the text generator draws with.

    npm pack @fontsource/{bitter,caveat,...}       # each name and version of FONTS
    python reference/make_fonts.py FOLDER_OF_THE_PACKED_FILES

Printable ASCII, pound and euro; no hinting and no layout tables. All are under the SIL Open Font License 1.1 without a
reserved font name (which a subset would not be allowed to keep): the script refuses others. Licence texts lie beside.
"""

import io
import sys
import tarfile
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

OUT = Path(__file__).resolve().parents[1] / "crates" / "data" / "assets" / "fonts"

# name -> (version of the npm package, weight)
FONTS = {
    "bitter": ("5.3.0", 500),
    "caveat": ("5.3.0", 700),
    "comic-neue": ("5.3.0", 700),
    "courier-prime": ("5.3.0", 700),
    "cousine": ("5.3.0", 400),
    "crimson-pro": ("5.3.0", 500),
    "eb-garamond": ("5.3.0", 600),
    "libre-franklin": ("5.3.0", 500),
    "nunito": ("5.3.0", 600),
    "open-sans": ("5.3.0", 500),
    "oswald": ("5.3.0", 400),
    "patrick-hand": ("5.3.0", 400),
    "roboto": ("5.3.0", 400),
    "roboto-mono": ("5.3.0", 500),
    "space-grotesk": ("5.3.0", 500),
    "zilla-slab": ("5.3.0", 500),
}
CHARACTERS = [*range(0x20, 0x7F), 0xA3, 0x20AC]
LICENCE = "SIL OPEN FONT LICENSE Version 1.1"
# Copyright, family, style, full name, version, PostScript name, licence, its address.
NAMES = [0, 1, 2, 4, 5, 6, 13, 14]


def subset(data):
    options = Options()
    options.hinting = False
    options.layout_features = []
    options.name_IDs = NAMES
    options.notdef_outline = True
    options.drop_tables += ["GPOS", "GSUB", "GDEF", "STAT", "DSIG", "meta", "gasp"]
    font = TTFont(io.BytesIO(data), recalcTimestamp=False)
    font.flavor = None
    missing = [chr(character) for character in CHARACTERS if character not in font.getBestCmap()]
    assert not missing, f"no glyphs for {missing}"
    assert "glyf" in font, "outlines are not TrueType"
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=CHARACTERS)
    subsetter.subset(font)
    out = io.BytesIO()
    font.save(out)
    return out.getvalue(), " ".join(str(name) for name in font["name"].names)


def main(folder):
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (version, weight) in FONTS.items():
        with tarfile.open(folder / f"fontsource-{name}-{version}.tgz") as package:
            read = lambda path: package.extractfile(f"package/{path}").read()
            licence = read("LICENSE").decode()
            font, names = subset(read(f"files/{name}-latin-{weight}-normal.woff"))
        assert LICENCE in licence, f"{name}: another licence"
        for text in (licence.split(LICENCE)[0], names):
            assert "Reserved Font Name" not in text, f"{name}: has a reserved font name"
        (OUT / f"{name}.ttf").write_bytes(font)
        (OUT / f"{name}.OFL.txt").write_text(licence)
        print(f"{name} {version} {weight}: {len(font)} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
