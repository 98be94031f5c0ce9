"""Environment variables that tell a process that it confirms failures for another pytest session."""

from __future__ import annotations

import os

#: Name of the variable with the path of the file to which a replay writes the signature of its failure.
SIGNATURE_FILE = "SIMLOOP_SIGNATURE_FILE"
#: Name of the variable that makes pytest a `pytest_simloop.replayer`. Its value is the descriptor of the socket for
#: requests.
REPLAYER_SOCKET = "SIMLOOP_REPLAYER_SOCKET"


def is_replayer() -> bool:
    """Return True in a process that is to replay failures for a session and has not yet begun to serve requests."""
    return REPLAYER_SOCKET in os.environ


def confirming() -> bool:
    """Return True in a process that only replays a failure of another process: no user is in front of it."""
    return SIGNATURE_FILE in os.environ
