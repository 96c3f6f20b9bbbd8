"""How the documentation is built: `sphinx-build -W -q docs OUT`. Nothing is fetched while it is."""

from __future__ import annotations

import re
from pathlib import Path

_INIT = Path(__file__).parent.parent / "nbgrid" / "__init__.py"

project = "nbgrid"
author = "the nbgrid authors"
project_copyright = author
release = version = re.findall(r'^__version__ = "(.+)"', _INIT.read_text(encoding="utf-8"), re.MULTILINE)[0]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3

html_theme = "alabaster"  # ships with Sphinx
html_theme_options = {
    "description": "One notebook, a grid of parameters, every result comparable",
    "page_width": "1100px",
}
html_show_sphinx = False
