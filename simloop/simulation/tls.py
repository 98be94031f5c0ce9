"""Handle on the certificate authority that a world trusts: certificates and TLS contexts for a test."""

from __future__ import annotations

import datetime
import posix
import ssl
import tempfile
from dataclasses import dataclass

from simloop.errors import ConfigurationError
from simloop.shims.ssl import authority
from simloop.sources import call_site
from simloop.world import active


@dataclass(frozen=True)
class Certificate:
    """Certificate for host names, and its private key, both in PEM format. The same names and validity always give the
    same certificate."""

    names: tuple[str, ...]
    cert_pem: bytes
    key_pem: bytes

    @property
    def pem(self) -> bytes:
        """Private key and certificate together, as ``SSLContext.load_cert_chain`` reads them from one file."""
        return self.key_pem + self.cert_pem

    def load_into(self, context: ssl.SSLContext) -> None:
        """Load the certificate and its key into `context`, as ``SSLContext.load_cert_chain`` does from files."""
        # OpenSSL reads files only: this one is real, and no part of the run.
        with active.world_entered(None):
            file, path = tempfile.mkstemp(prefix="simloop-")
            try:
                posix.write(file, self.pem)
                posix.close(file)
                context.load_cert_chain(path)
            finally:
                posix.unlink(path)


class SimTls:
    """Handle on the certificate authority of a world: ``sim.tls``.

    TLS contexts that are created in a run and trust the defaults (``ssl.create_default_context()``, ``ssl=True``, those
    of httpx, aiohttp and requests) trust this authority and no other, since real servers cannot be reached. Contexts
    that load an authority of their own do not trust it. All certificates have the same private key, which is public;
    they are the same bytes in every run and every process, and valid from 2000 to 2099 unless the test says otherwise.
    """

    @property
    def ca_pem(self) -> bytes:
        """Certificate of the authority itself, for programs that have to be told which one to trust
        (``context.load_verify_locations(cadata=sim.tls.ca_pem.decode())``)."""
        return authority.AUTHORITY_PEM

    def certificate(
        self,
        *names: str,
        valid_from: datetime.datetime = authority.VALID_FROM,
        valid_until: datetime.datetime = authority.VALID_UNTIL,
    ) -> Certificate:
        """Return a certificate for host names and IP addresses, by which a server or a client proves its identity. A
        name may begin with ``*.``. It counts as valid by the clock of the host that verifies it (`Sim.clock`).

        Raises `ConfigurationError` if no name is given, for an invalid name, for a time without a time zone, and for a
        certificate that would never be valid.

        >>> import simloop
        >>> async def main():
        ...     return simloop.current().tls.certificate("db.internal", "10.0.0.2").names
        >>> simloop.run(main)
        ('db.internal', '10.0.0.2')
        """
        if not names:
            raise _wrong('a certificate needs a name, as in sim.tls.certificate("db.internal")')
        found = []
        for name in names:
            spelled = authority.spelled(name)
            if spelled is None:
                raise _wrong(f"{name!r} is neither a host name nor an IP address, which a certificate could be for")
            found.append(spelled)
        for moment in (valid_from, valid_until):
            if not isinstance(moment, datetime.datetime) or moment.tzinfo is None:
                raise _wrong(f"a certificate is valid between two datetimes with a time zone, not {moment!r}")
        if valid_from >= valid_until:
            raise _wrong(f"a certificate that is valid from {valid_from} to {valid_until} never is")
        try:
            with active.world_entered(None):  # what is imported is no part of the run
                pem = authority.certificate_pem(tuple(found), valid_from, valid_until)
        except ImportError:
            raise _wrong("sim.tls needs cryptography to make certificates: pip install 'pytest-simloop[tls]'") from None
        return Certificate(tuple(found), pem, authority.KEY_PEM)

    def server_context(self, *names: str) -> ssl.SSLContext:
        """Return a TLS context for a server with these names: ``ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)``
        with a certificate loaded.

        >>> import asyncio, simloop
        >>> async def main():
        ...     async def answer(reader, writer):
        ...         writer.write(await reader.readline())
        ...         writer.close()
        ...     tls = simloop.current().tls.server_context("localhost")
        ...     async with await asyncio.start_server(answer, "localhost", 443, ssl=tls):
        ...         reader, writer = await asyncio.open_connection("localhost", 443, ssl=True)
        ...         writer.write(b"hello\\n")
        ...         line = await reader.read()
        ...         writer.close()
        ...         await writer.wait_closed()
        ...     return line
        >>> simloop.run(main)
        b'hello\\n'
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.certificate(*names).load_into(context)
        return context

    def client_context(self, *names: str) -> ssl.SSLContext:
        """Return a TLS context for a client that presents a certificate for these names, if the server asks for one
        (``server.verify_mode = ssl.CERT_REQUIRED``, and ``server.load_default_certs(ssl.Purpose.CLIENT_AUTH)``). A
        client without a certificate can use ``ssl.create_default_context()``."""
        context = ssl.create_default_context()
        self.certificate(*names).load_into(context)
        return context

    def __repr__(self) -> str:
        return "<SimTls>"


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(f"{call_site()}: {what}")
