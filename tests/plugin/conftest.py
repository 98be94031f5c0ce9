"""These tests run pytest inside of pytest.

`pytester` forgets every module that a session inside this process has imported first. What holds on to the threads
of executors must not be imported twice, so it is imported here.
"""

from __future__ import annotations
