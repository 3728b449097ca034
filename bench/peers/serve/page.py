"""What the scripts of this folder have in common: the head of a result, and where it is written."""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "engines"))

import machine  # noqa: E402  (of the engines' comparison)


def arguments(parser):
    """Those that every script takes, parsed."""
    parser.add_argument("--foveate", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--out", type=pathlib.Path, help="path without .md and .json; without it the page is printed")
    options = parser.parse_args()
    options.foveate = options.foveate.resolve()
    return options


def head(options, packages=()):
    told = subprocess.run([options.foveate, "--version"], capture_output=True, text=True, check=True)
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    typed = [pathlib.Path(word).name if os.path.isabs(word) else word for word in sys.argv]
    return {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", *typed]),
        "machine": machine.description(),
        "load_before": os.getloadavg(),
        "foveate": told.stdout.strip(),
        "versions": versions,
    }


def opening(title, result):
    about = result["machine"]
    versions = ", ".join([result["foveate"], *(f"{name} {version}" for name, version in result["versions"].items())])
    flags = ", ".join(flag for flag, there in about["flags"].items() if there)
    load = ", ".join(f"{load:.2f}" for load in result["load_before"])
    return [
        f"# {title} ({result['date']})", "",
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, Linux {about['kernel']}; has {flags}. The clients run on the same "
        f"machine. Load average before: {load}.", "",
        f"Command: `{result['command']}`.", "", f"Versions: {versions}.", "",
        *busy(result),
    ]


def busy(result):
    """A warning where others were at work."""
    if result["load_before"][0] < result["machine"]["cores"]:
        return []
    return ["**Others used this machine meanwhile: what was answered, and memory, stand; times and rates are not to be quoted.**", ""]


def table(columns, rows):
    yield "| " + " | ".join(columns) + " |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield "| " + " | ".join("–" if cell is None else str(cell) for cell in row) + " |"


def write(options, result, lines):
    """The page and its numbers, or both on standard output."""
    text = "\n".join(lines).rstrip() + "\n"
    if options.out is None:
        print(text)
        return
    options.out.with_name(options.out.name + ".json").write_text(json.dumps(result, indent=1) + "\n")
    options.out.with_name(options.out.name + ".md").write_text(text)


def parser(text):
    return argparse.ArgumentParser(description=text.splitlines()[0])
