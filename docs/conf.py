"""Configuration of the documentation; built offline, warnings are errors."""

from descents import __version__

project = "descents"
author = "The descents developers"
copyright = "2026, the descents developers"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"descents {__version__}"
numpydoc_show_class_members = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
myst_enable_extensions = ["dollarmath"]
nitpicky = False
