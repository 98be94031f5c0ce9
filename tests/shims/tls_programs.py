"""Programs that speak TLS by `ssl.SSLSocket`, in threads or without waiting: for the real loopback, and for a run."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import select
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from simloop.shims.ssl import authority

HOST = "127.0.0.1"
MUCH = bytes(range(256)) * 8192


def server_context(*names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = Path("server.pem")
    path.write_bytes(authority.KEY_PEM + authority.certificate_pem(names or ("localhost", HOST)))
    context.load_cert_chain(path)
    context.load_verify_locations(cadata=authority.AUTHORITY_PEM.decode())
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.AUTHORITY_PEM.decode())


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A thread that gives one connection to `answer`. What that raises is raised here."""
    errors: list[BaseException] = []
    listener = socket.create_server((HOST, 0))

    def serve() -> None:
        with listener:
            sock, _ = listener.accept()
            with sock:
                try:
                    answer(sock)
                except BaseException as error:
                    errors.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join()
    if errors:
        raise errors[0]


def connected(port: int, timeout: float | None = None) -> socket.socket:
    return socket.create_connection((HOST, port), timeout)


def wrapped(port: int, context: ssl.SSLContext, **options: Any) -> ssl.SSLSocket:
    return context.wrap_socket(connected(port), server_hostname="localhost", **options)


def said(error: OSError) -> tuple[str, str | None]:
    """An error without the line of _ssl.c."""
    text = str(error).partition(" (_ssl.c:")[0]
    return type(error).__name__, text.partition(": ")[2] if text.startswith("_ssl.c:") else text


# --- programs ---------------------------------------------------------------------------------------


def echo() -> Any:
    def answer(sock: socket.socket) -> None:
        with server_context().wrap_socket(sock, server_side=True) as tls:
            while data := tls.recv(4096):
                tls.sendall(data)
            tls.unwrap().close()

    with serving(answer) as port, wrapped(port, client_context()) as tls:
        tls.sendall(b"hello")
        first = tls.recv(100)
        buffer = bytearray(10)
        tls.write(b"again")
        size = tls.recv_into(buffer)
        plain = tls.unwrap()
        return (
            type(tls) is ssl.SSLSocket or isinstance(tls, ssl.SSLSocket), first, bytes(buffer[:size]), tls.version(),
            tls.cipher(), plain is tls, tls.session_reused, tls.server_side, tls.server_hostname, repr(plain.recv(1)),
        )  # fmt: skip


def echoes_much(sock: socket.socket) -> None:
    with server_context().wrap_socket(sock, server_side=True) as tls:
        left = len(MUCH)
        while left:
            piece = tls.recv(65536)
            left -= len(piece)
            tls.sendall(piece)


def much() -> Any:
    """Megabytes there and back."""
    with serving(echoes_much) as port, wrapped(port, client_context()) as tls, tls.makefile("rb") as file:
        return all(
            (tls.sendall(piece), file.read(len(piece)))[1] == piece
            for piece in (MUCH[start : start + 100_000] for start in range(0, len(MUCH), 100_000))
        )


def much_by_three_threads() -> Any:
    """Megabytes, both ways at once, by two writers and a reader of one socket. For a run only: outside of one, threads
    use one object of OpenSSL at once, by which CPython dies now and then (its issue 151508)."""
    with serving(echoes_much) as port, wrapped(port, client_context()) as tls:
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
        halves = b"a" * (len(MUCH) // 2), b"b" * (len(MUCH) // 2)
        writers = [threading.Thread(target=tls.sendall, args=(half,)) for half in halves]
        for writer in writers:
            writer.start()
        with tls.makefile("rb") as file:
            found = file.read(len(MUCH))
        for writer in writers:
            writer.join()
        return [found.count(half[:1]) == len(half) for half in halves]


def send_takes_a_record() -> Any:
    def answer(sock: socket.socket) -> None:
        with server_context().wrap_socket(sock, server_side=True) as tls, contextlib.suppress(ConnectionResetError):
            while tls.recv(65536):
                pass

    with serving(answer) as port, wrapped(port, client_context()) as tls:
        return tls.send(b"x" * 100_000), tls.send(b""), tls.send(b"y")


def negotiation() -> Any:
    names: list[Any] = []
    found: list[Any] = []

    def choose(sock: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        names.append((isinstance(sock, ssl.SSLSocket), name))
        sock.context = server_context("other.test")
        sock.context.verify_mode = ssl.CERT_REQUIRED

    def answer(sock: socket.socket) -> None:
        context = server_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.sni_callback = choose  # type: ignore[assignment]
        context.verify_mode = ssl.CERT_REQUIRED
        with context.wrap_socket(sock, server_side=True) as tls:
            peer = tls.getpeercert()
            assert peer is not None
            found.extend((tls.selected_alpn_protocol(), peer["subjectAltName"], tls.shared_ciphers() is not None))
            tls.sendall(b"x")

    with serving(answer) as port:
        context = client_context()
        context.set_alpn_protocols(["spdy", "http/1.1"])
        path = Path("client.pem")
        path.write_bytes(authority.KEY_PEM + authority.certificate_pem(("me",)))
        context.load_cert_chain(path)
        with context.wrap_socket(connected(port), server_hostname="other.test") as tls:
            peer = tls.getpeercert()
            assert peer is not None
            found.append(len(tls.getpeercert(True) or b"") > 100)
            found += [tls.recv(5), tls.selected_alpn_protocol(), peer["subjectAltName"], tls.compression()]
    return names, sorted(map(str, found))


def not_trusted() -> Any:
    heard: list[Any] = []

    def answer(sock: socket.socket) -> None:
        try:
            server_context("wrong.test").wrap_socket(sock, server_side=True)
        except OSError as error:
            heard.append(said(error))

    with serving(answer) as port:
        try:
            wrapped(port, client_context())
        except ssl.SSLCertVerificationError as error:
            heard.append((error.verify_code, error.verify_message, error.reason))
    return sorted(map(str, heard))


def timeouts() -> Any:
    found: list[Any] = []
    done = threading.Event()

    def answer(sock: socket.socket) -> None:
        done.wait(10)

    with serving(answer) as port:
        try:
            client_context().wrap_socket(connected(port, 0.05), server_hostname="localhost")
        except TimeoutError as error:
            found.append(said(error))
        done.set()

    done.clear()

    def shake_hands(sock: socket.socket) -> None:
        with server_context().wrap_socket(sock, server_side=True):
            done.wait(10)

    calls: tuple[Callable[[ssl.SSLSocket], Any], ...] = (
        lambda tls: tls.recv(1), lambda tls: tls.unwrap(), lambda tls: tls.sendall(b"x" * 50_000_000)
    )  # fmt: skip
    for call in calls:
        done.clear()
        with serving(shake_hands) as port, wrapped(port, client_context()) as tls:
            tls.settimeout(0.05)
            try:
                call(tls)
            except TimeoutError as error:
                found.append(said(error))
            done.set()
    return found


def not_blocking() -> Any:
    """Everything that a loop of one's own sees: what a call waits for, and that `select` tells of each record."""
    found: list[Any] = []
    begun, sent = threading.Event(), threading.Event()

    def answer(sock: socket.socket) -> None:
        begun.wait()
        with server_context().wrap_socket(sock, server_side=True) as tls:
            tls.sendall(b"one")
            tls.sendall(b"two")
            sent.set()
            found.append(tls.recv(100))
            tls.unwrap()

    with serving(answer) as port:
        sock = connected(port)
        sock.setblocking(False)
        tls = client_context().wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=False)

        def until_done(call: Callable[[], Any]) -> Any:
            while True:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    assert select.select([tls], [], [], 10)[0]
                except ssl.SSLWantWriteError:
                    assert select.select([], [tls], [], 10)[1]

        with tls:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError as error:
                found.append(said(error))
            begun.set()
            found.append(until_done(tls.do_handshake))
            sent.wait()
            found.append(until_done(lambda: tls.recv(100)))
            # Both may have come together: the first read has left the second record to the socket.
            found.append(tls.pending())
            assert select.select([tls], [], [], 10)[0]
            found.append(until_done(lambda: tls.recv(100)))
            found.append(until_done(lambda: tls.send(b"three")))
            until_done(tls.unwrap)
    return sorted(map(str, found))


def full_buffers() -> Any:
    """A write that is taken in part is to be repeated, and is not sent twice."""
    data = bytes(range(256)) * 64
    total = 0
    go_on = threading.Event()

    def answer(sock: socket.socket) -> None:
        nonlocal total
        with server_context().wrap_socket(sock, server_side=True) as tls:
            go_on.wait(10)
            while piece := tls.recv(16384):
                assert piece == data
                total += len(piece)

    with serving(answer) as port, wrapped(port, client_context()) as tls:
        tls.setblocking(False)
        sent = 0
        try:
            while True:
                sent += tls.send(data)
        except ssl.SSLWantWriteError as error:
            said_at_last = said(error)
        go_on.set()
        while True:
            assert select.select([], [tls], [], 10)[1]
            try:
                sent += tls.send(data)
                break
            except ssl.SSLWantWriteError:
                continue
        # Plainly, below TLS: shutdown() of a wrapped socket forgets that it was one.
        with socket.socket(fileno=socket.dup(tls.fileno())) as below:
            below.shutdown(socket.SHUT_WR)
        tls.setblocking(True)
        with contextlib.suppress(ssl.SSLError):  # OpenSSL 3 answers with an alert
            tls.recv(1)
    return said_at_last, sent == total, sent % len(data)


def ends() -> Any:
    """Ends without the words of TLS: of the connection, and of the socket below."""
    found: list[Any] = []

    def hang_up(sock: socket.socket) -> None:
        tls = server_context().wrap_socket(sock, server_side=True)
        tls.recv(1)
        tls.close()

    for suppress in (True, False):
        with serving(hang_up) as port, wrapped(port, client_context(), suppress_ragged_eofs=suppress) as tls:
            tls.sendall(b"x")
            try:
                found.append(tls.recv(1))
            except OSError as error:
                found.append(type(error).__name__)
            tls.close()
            for call in (lambda: tls.recv(1), lambda: tls.send(b"x"), lambda: tls.do_handshake()):
                try:
                    found.append(call())
                except OSError as error:
                    found.append(said(error))

    def plain(sock: socket.socket) -> None:
        sock.recv(10)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(plain) as port:
        try:
            wrapped(port, client_context())
        except ssl.SSLError as error:
            found.append((type(error).__name__, error.reason))
    return found


def before_connecting() -> Any:
    """A socket that is wrapped first, and connected then; another one that is no stream."""
    found: list[Any] = []

    def answer(sock: socket.socket) -> None:
        with server_context().wrap_socket(sock, server_side=True) as tls:
            tls.sendall(tls.recv(10))

    with serving(answer) as port, client_context().wrap_socket(socket.socket(), server_hostname="localhost") as tls:
        found.append(tls.version())
        tls.connect((HOST, port))
        tls.sendall(b"late")
        found += [tls.recv(10), tls.version()]
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        try:
            client_context().wrap_socket(sock, server_hostname="localhost")
        except NotImplementedError as error:
            found.append(str(error))
    return found


def listening() -> Any:
    """A listener that is wrapped: each connection that it accepts is."""
    with socket.create_server((HOST, 0)) as sock, server_context().wrap_socket(sock, server_side=True) as listener:
        found: list[bytes] = []

        def serve() -> None:
            tls, _ = listener.accept()
            with tls:
                found.append(tls.recv(10))

        thread = threading.Thread(target=serve)
        thread.start()
        with wrapped(listener.getsockname()[1], client_context()) as tls:
            tls.sendall(b"in")
        thread.join()
    return found


def sessions() -> Any:
    """A session that is taken up again."""
    context, found, session = client_context(), [], None
    server = server_context()

    def answer(sock: socket.socket) -> None:
        with server.wrap_socket(sock, server_side=True) as tls:
            tls.sendall(b"x")
            found.append(tls.session_reused)

    for _ in range(2):
        with serving(answer) as port, wrapped(port, context, session=session) as tls:
            tls.recv(1)
            found.append(tls.session_reused)
            session = tls.session
    return sorted(map(str, found))


def http_client() -> Any:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer((HOST, 0), Handler) as server:
        server.socket = server_context().wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            port = server.server_address[1]
            with urllib.request.urlopen(f"https://{HOST}:{port}/one", context=client_context()) as response:
                found = [response.read()]
            connection = http.client.HTTPSConnection(HOST, port, context=client_context())
            connection.request("GET", "/two")
            found.append(connection.getresponse().read())
            connection.close()
        finally:
            server.shutdown()
            thread.join()
    return found


PROGRAMS: list[Callable[[], Any]] = [
    echo, much, send_takes_a_record, negotiation, not_trusted, timeouts, not_blocking, full_buffers, ends,
    before_connecting, listening, sessions, http_client,
]  # fmt: skip
