"""These tests need the plugins of the extra `adoption`: `tox -e adoption` runs them."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("pytest_asyncio") else ["*.py"]
