"""Event loops of simulated processes: stock asyncio with a simulated selector. A *turn* is one iteration of a loop.

Private parts of asyncio are used here, and by `shims.signal`, `shims.child_watcher`, `shims.importlib`,
`shims.loop_bound`, `checks.waiting`, `report`, and `explore` (its `standalone` and `wakeups`).
`tests/test_asyncio_private.py` fails if one of them has changed: support for a new Python version starts there.
"""
