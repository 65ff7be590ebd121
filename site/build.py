"""The course as a site: python site/build.py [--output FOLDER].

Sphinx wants one folder of sources with an index at its top, and this repository's top is its README. So the pages are
copied into a folder of their own, where the README is the index; nothing is executed, the stored outputs are shown.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

HERE = Path(__file__).parent
ROOT = HERE.parent
OUTPUT = HERE / "_build"
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "notebooks",
    "docs",
    "workshop",
    "monitoring",
    "data",
)
NO_PAGES = shutil.ignore_patterns("workspace", ".*", "__pycache__")


def build(output: Path = OUTPUT) -> int:
    """Build the site into `output`/html; a warning is a fault, and all are told. Returns the exit code."""
    sources = output / "source"
    shutil.rmtree(sources, ignore_errors=True)
    sources.mkdir(parents=True)
    shutil.copy2(HERE / "index.md", sources)
    for page in map(ROOT.joinpath, PAGES):
        if page.is_dir():
            shutil.copytree(page, sources / page.name, ignore=NO_PAGES)
        elif page.exists():
            shutil.copy2(page, sources)
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--conf-dir", str(HERE)]
    # What Sphinx read stands beside the pages, not among them: it would be offered with them.
    return build_main([*options, "--doctree-dir", str(output / "doctrees"), str(sources), str(output / "html")])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the pages go to its folder html")
    folder = parser.parse_args().output.absolute()
    if code := build(folder):
        sys.exit(code)
    print(f"The site is in {folder / 'html'}: open index.html, or serve it with")
    print(f"  python3 -m http.server --bind 127.0.0.1 --directory {folder / 'html'}")
