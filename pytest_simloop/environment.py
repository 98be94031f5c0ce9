"""Environment variables by which the processes that confirm failures know what they are."""

from __future__ import annotations

import os

#: Name of the variable that says into which file a replay writes how it failed.
SIGNATURE_FILE = "SIMLOOP_SIGNATURE_FILE"
#: Name of the one that makes pytest a `pytest_simloop.replayer`: the number of its socket.
REPLAYER_SOCKET = "SIMLOOP_REPLAYER_SOCKET"


def is_replayer() -> bool:
    """Returns True in a process that replays failures for a session, before it has begun to serve."""
    return REPLAYER_SOCKET in os.environ


def confirming() -> bool:
    """Returns True in a process that only replays a failure of another one: nobody sits in front of it."""
    return SIGNATURE_FILE in os.environ
