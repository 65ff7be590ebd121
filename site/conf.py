"""Sphinx's settings for the site. Everything that a page needs is in it: it can be read with no network at all."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

project = "tritonlab"
author = "the authors of tritonlab"
copyright = "the authors of tritonlab, Apache-2.0"
extensions = ["myst_nb"]
root_doc = "index"
exclude_patterns = ["README.md", "data"]  # the index includes the README
suppress_warnings = [
    "misc.highlighting_failure",  # a fence of a language without colours, such as crontab
    "mystnb.unknown_mime_type",  # what a runbook tells its runner
]

nb_execution_mode = "off"
# A panel needs its kernel. Beside the view of it stands its text, and that is what can be shown here.
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
nb_ipywidgets_js: dict[str, Any] = {}
# Outputs show whatever a server said, which is no source of any language.
nb_render_text_lexer = "none"
nb_merge_streams = True
myst_heading_anchors = 4

html_theme = "sphinx_book_theme"
html_title = "tritonlab"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_use_index = False  # the search finds what an index of Python names would
html_theme_options = {
    "use_download_button": True,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the search stands in the side bar
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "toc_title": "On this page",
}

LINK_TO_FILE = re.compile(r"\]\(([\w./-]+\.md)(?=[)#])")


class AltText(SphinxTransform):
    """Give each figure among the outputs what the notebook says of it, its text/plain, as alt text."""

    default_priority = 500

    def apply(self) -> None:
        for bundle in self.document.findall(nodes.container):
            if bundle.get("nb_element") == "mime_bundle":
                [said] = [part.astext() for part in bundle if part["mime_type"] == "text/plain"] or [""]
                for image in bundle.findall(nodes.image):
                    image["alt"] = " ".join(said.split())


def link_to_index(app: Sphinx, docname: str, source: list[str]) -> None:
    """The README is the index here: links to it lead there."""

    def to_index(link: re.Match[str]) -> str:
        page = posixpath.normpath(posixpath.join(posixpath.dirname(docname), link[1]))
        return f"]({link[1].removesuffix('README.md')}index.md" if page == "README.md" else link[0]

    source[0] = LINK_TO_FILE.sub(to_index, source[0])


def setup(app: Sphinx) -> None:
    app.add_transform(AltText)
    app.connect("source-read", link_to_index)
