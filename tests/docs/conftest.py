"""These tests need the Markdown parser of the extra `docs`: `tox -e docs` runs them."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("markdown_it") else ["*.py"]
