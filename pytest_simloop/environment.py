"""Environment variables by which a pytest process knows that it replays failures for another pytest session."""

from __future__ import annotations

import os

#: Name of the environment variable with the path of the file to which a replay writes the signature of its failure.
SIGNATURE_FILE = "SIMLOOP_SIGNATURE_FILE"
#: Name of the environment variable that makes pytest a process that replays failures (`pytest_simloop.replayer`). Its
#: value is the descriptor of the socket for requests.
REPLAYER_SOCKET = "SIMLOOP_REPLAYER_SOCKET"


def is_replayer() -> bool:
    """Return True in a process that is to replay failures for another session and does not serve requests yet."""
    return REPLAYER_SOCKET in os.environ


def confirming() -> bool:
    """Return True in a process that only replays a failure for another session, so that nobody sees its output."""
    return SIGNATURE_FILE in os.environ
