"""Makes the two bundled fonts: Noto Sans cut to the characters figures use, with the maths signs it lacks
taken from Noto Sans Math. Needs fonttools.

    subset.py NotoSans-Regular.ttf NotoSans-SemiBold.ttf NotoSansMath-Regular.ttf OUTPUT_FOLDER

Made from version 20201225 of the Noto fonts as Debian packages them (fonts-noto-core, fonts-noto-extra).
"""

import sys
import tempfile
from pathlib import Path

from fontTools import subset
from fontTools.merge import Merger
from fontTools.ttLib import TTFont

LATIN = set(range(0x20, 0x7F)) | set(range(0xA0, 0x180))
GREEK = set(range(0x386, 0x3D0))
EXTRA = {ord(c) for c in "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻₀₁₂₃₄₅₆₇₈₉–—‘’“”…•‰†‡\u2009\u202f"}
MATHS = {ord(c) for c in "−≤≥≈≠∞→←↑↓√∝∆∑"}


def cut(source, characters, features, output):
    options = subset.Options(hinting=False, layout_features=features, notdef_outline=True)
    options.name_IDs = ["*"]
    options.drop_tables += ["MATH", "DSIG", "meta"]
    font = subset.load_font(source, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=characters)
    subsetter.subset(font)
    for table in ("GDEF", "GSUB", "GPOS"):
        if not features and table in font:
            del font[table]
    subset.save_font(font, output, options)


def main(regular, semibold, maths, output):
    with tempfile.TemporaryDirectory() as folder:
        for source, name in ((regular, "Regular"), (semibold, "SemiBold")):
            text, signs = f"{folder}/text.ttf", f"{folder}/signs.ttf"
            cut(source, LATIN | GREEK | EXTRA, ["kern"], text)
            cut(maths, MATHS - set(TTFont(source).getBestCmap()), [], signs)
            font, base = Merger().merge([text, signs]), TTFont(text)
            # The line box stays that of the text font: the maths font's is three times as tall.
            for field in ("ascent", "descent", "lineGap"):
                setattr(font["hhea"], field, getattr(base["hhea"], field))
            font["OS/2"], font["name"] = base["OS/2"], base["name"]
            font["head"].created = font["head"].modified = base["head"].created
            font.recalcTimestamp = False
            font.save(Path(output) / f"NotoSans-{name}-subset.ttf")


if __name__ == "__main__":
    main(*sys.argv[1:])
