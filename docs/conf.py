"""Sphinx configuration of the documentation site: `tox -e docs` builds it strictly, into `docs/_build/html`."""

import ast
import importlib
import inspect
import pkgutil
from importlib.metadata import version as _version

import simloop

project = "simloop"
author = "The simloop developers"
project_copyright = "The simloop developers"
version = release = _version("pytest-simloop")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
nitpicky = True

# Docstrings write names in single backticks: those that the reference knows become links, others stay code.
default_role = "py:obj"
nitpick_ignore_regex = [
    ("py:obj", r".*"),
    # Types of other projects in signatures: their inventories would have to be fetched at every build.
    ("py:class", r"_?(asyncio|collections|datetime|os|ssl|types|typing)\..*"),
    # Types in signatures that are no part of the public surface.
    ("py:class", r"simloop\.[a-z].*|Outcome|Tree"),
]

autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_typehints_format = "short"
autodoc_default_options = {"exclude-members": "__init__, __new__"}

myst_heading_anchors = 3

html_theme = "furo"
html_title = f"simloop {release}"
html_theme_options = {
    "source_repository": "https://github.com/simloop/pytest-simloop/",
    "source_branch": "main",
    "source_directory": "docs/",
}
html_static_path = ["_static"]
html_css_files = ["wide.css"]


def _import_for_types(module):
    """Do the imports that `module` makes for type checkers alone: signatures in the reference need them."""
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(statement.body, []), module.__file__, "exec"), vars(module))


for _module in pkgutil.walk_packages(simloop.__path__, "simloop."):
    if not _module.name.endswith("__main__"):
        _import_for_types(importlib.import_module(_module.name))
