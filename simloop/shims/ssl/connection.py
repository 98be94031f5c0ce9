"""TLS connections over simulated sockets, as the lower layer of `ssl.SSLSocket`: a replacement of `_ssl._SSLSocket`,
which needs a real descriptor (Modules/_ssl.c)."""

from __future__ import annotations

import contextlib
import ssl
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from simloop.kernel.descriptors import IN, OUT

if TYPE_CHECKING:
    from simloop.shims.socket.sockets import SimSocket

# RFC 8446, section 5.1: type, version, and the length of what follows.
_HEADER = 5


class Connection:
    """TLS connection over a simulated socket, in place of `_ssl._SSLSocket`. Its calls have the socket's timeout.

    Like OpenSSL, it reads no more from the socket than the current TLS record, so that `select` still reports what
    follows.
    """

    def __init__(self, sock: SimSocket, tls: Any, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        # The socket holds this object.
        self._sock = weakref.ref(sock)
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        # What has come of a record's header, and how much of the record is still to come.
        self._header = b""
        self._missing = _HEADER
        self._unsent = b""
        self._sending = False
        # Size of the data in a record that is not sent yet, whose write is to be repeated.
        self._written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tls, name)

    @property
    def context(self) -> ssl.SSLContext:
        context: ssl.SSLContext = self._tls.context
        return context

    @context.setter
    def context(self, context: ssl.SSLContext) -> None:
        self._tls.context = context

    @property
    def session(self) -> Any:
        return self._tls.session

    @session.setter
    def session(self, session: Any) -> None:
        self._tls.session = session

    def do_handshake(self) -> None:
        self._run(self._tls.do_handshake, "handshake")

    def read(self, *args: Any) -> Any:
        result = self._run(partial(self._tls.read, *args), "read", flush=False)
        with contextlib.suppress(ssl.SSLWantWriteError):  # the next call sends it
            self._send(self._open_socket(), None, "read")
        return result

    def write(self, data: Any) -> int:
        sock = self._open_socket()
        written = self._written or self._run(partial(self._tls.write, data), "write", flush=False)
        # Another thread may write while this one waits, and its data is no repetition.
        self._written = 0
        try:
            self._send(sock, sock._deadline_ns(), "write")
        except BaseException:
            self._written = written
            raise
        return int(written)

    def shutdown(self) -> SimSocket:
        self._run(self._tls.shutdown, "read")
        return self._open_socket()

    def verify_client_post_handshake(self) -> None:
        self._tls.verify_client_post_handshake()

    def _open_socket(self) -> SimSocket:
        sock = self._sock()
        if sock is None or sock.fileno() < 0:
            raise ssl.SSLError("Underlying socket has been closed.")
        return sock

    def _run(self, call: Callable[[], Any], what: str, *, flush: bool = True) -> Any:
        """Run an operation of OpenSSL, named `what` in errors, and move records between OpenSSL and the socket as
        needed. With `flush`, records that are left at its end are sent."""
        sock = self._open_socket()
        deadline_ns = sock._deadline_ns()
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError as wanted:
                self._send(sock, deadline_ns, what)
                self._receive(sock, deadline_ns, what, wanted)
                continue
            except ssl.SSLError:
                with contextlib.suppress(OSError):  # the alert that says why
                    self._send(sock, deadline_ns, what)
                raise
            if flush:
                self._send(sock, deadline_ns, what)
            return result

    def _send(self, sock: SimSocket, deadline_ns: int | None, what: str) -> None:
        """Send the records that OpenSSL has written. If another thread is already sending, that thread sends them,
        too."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        if self._sending:
            return
        self._sending = True
        try:
            while self._unsent:
                sent = _call(sock, lambda: sock._file.send(self._unsent), OUT, deadline_ns, what)
                self._unsent = self._unsent[sent:]
        except BlockingIOError:
            raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "The operation did not complete (write)") from None
        finally:
            self._sending = False

    def _receive(self, sock: SimSocket, deadline_ns: int | None, what: str, wanted: ssl.SSLWantReadError) -> None:
        """Wait for bytes of the current TLS record, and pass them to OpenSSL. `wanted` is the error by which OpenSSL
        asked for them."""
        try:
            data = _call(sock, partial(sock._file.recv, self._missing), IN, deadline_ns, what)
        except BlockingIOError:
            raise wanted from None
        if not data:
            self._incoming.write_eof()
            return
        self._incoming.write(data)
        self._missing -= len(data)
        if len(self._header) < _HEADER:
            self._header += data
            if not self._missing:
                self._missing = int.from_bytes(self._header[3:])
        if not self._missing:
            self._header, self._missing = b"", _HEADER


def _call(sock: SimSocket, attempt: Callable[[], Any], mask: int, deadline_ns: int | None, what: str) -> Any:
    try:
        return sock._call(attempt, mask, deadline_ns)
    except TimeoutError as error:
        if error.errno is None:
            raise TimeoutError(f"The {what} operation timed out") from None
        raise  # the system's own, of a peer that does not answer
