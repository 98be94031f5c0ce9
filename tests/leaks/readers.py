"""Probes of what a run writes and C code, or the import system, then asks for."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import ssl
import sys
from pathlib import Path
from typing import Any

import real
from probes import escapes, simulated

from simloop.shims.ssl import authority

#: A certificate for nobody, with its key.
PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgYsntc2+Q6QNYVArj
+1vwPdxuvkj5veDtB4M6NZ2Mt2mhRANCAAQKLrx7Pc+0jUenXuWg14OjVCELNAFc
6UTF9bsWddrRGuEVksCQRCcTe1HRHpKh7FvnSDCar2+FSevpHcQHbAwC
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBdjCCARugAwIBAgIUFK+GUJsHH20cz26PnIwfyEZiXswwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEbGVhazAgFw0yNjExMjkxNjI5MTdaGA8yMTI2MTEwNTE2Mjkx
N1owDzENMAsGA1UEAwwEbGVhazBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAou
vHs9z7SNR6de5aDXg6NUIQs0AVzpRMX1uxZ12tEa4RWSwJBEJxN7UdEekqHsW+dI
MJqvb4VJ6+kdxAdsDAKjUzBRMB0GA1UdDgQWBBReCuC64pEKFwM36tmi5ZKZfquZ
1DAfBgNVHSMEGDAWgBReCuC64pEKFwM36tmi5ZKZfquZ1DAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQDz/fAl028siZIPWDNO8A55BoN0R+vZEceG
Xo2Kp2C4jwIhAMFloN5rBrrieaWxT4XTiHXETRhrMAtVaKQncBT8I2IP
-----END CERTIFICATE-----
"""
OTHER = real.ROOT / "other.pem"
OTHER.write_text(PEM.partition("-----BEGIN CERT")[0])


@simulated("certificates")
def certificates_that_were_just_written() -> list[Any]:
    Path("new.pem").write_text(PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("new.pem")
    context.load_verify_locations(cafile=Path("new.pem"))
    return [context.cert_store_stats()]


@simulated("certificates")
def certificates_that_were_renamed_or_removed() -> list[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Path("other.pem").write_text(PEM)
    os.rename("other.pem", "renamed.pem")
    context.load_cert_chain("renamed.pem")
    try:
        context.load_cert_chain("other.pem")
    except FileNotFoundError as error:
        return [str(error)]
    raise AssertionError("it was loaded")


@escapes("certificates in directories that were made in the run")
def a_directory_of_certificates() -> None:
    Path("certificates").mkdir()
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(capath="certificates")


@escapes("imports of what was written in the run")
def a_module_that_was_just_written() -> None:
    Path("generated_module.py").write_text("x = 1")
    sys.path.insert(0, str(real.ROOT))
    try:
        importlib.import_module("generated_module")
    finally:
        sys.path.remove(str(real.ROOT))


@escapes("imports of what was written in the run")
def a_module_by_its_file() -> None:
    Path("generated.py").write_text("x = 1")
    spec = importlib.util.spec_from_file_location("generated", "generated.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@simulated("imports")
def a_module_that_is_nowhere() -> str:
    Path("there").mkdir()
    try:
        importlib.import_module("nowhere_at_all")
    except ModuleNotFoundError as error:
        return str(error)
    raise AssertionError("it was found")


def _handshake(client: ssl.SSLContext) -> list[str]:
    """What two contexts write to one another, as hexadecimal digits."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Path("host.pem").write_bytes(authority.KEY_PEM + authority.certificate_pem(("host",)))
    server.load_cert_chain("host.pem")
    server.num_tickets = 0
    bios = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(*bios[:2], server_hostname="host"), server.wrap_bio(*bios[2:], server_side=True)
    written: list[str] = []
    for _ in range(2):
        for end, out, into in ((ends[0], bios[1], bios[2]), (ends[1], bios[3], bios[0])):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            data = out.read()
            into.write(data)
            written.append(data.hex())
    return [*written, str(ends[0].getpeercert())]


@simulated("TLS")
def handshakes_are_the_seeds() -> list[str]:
    return _handshake(ssl.create_default_context())


@simulated("certificates")
def authorities_of_the_machine() -> list[Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_default_verify_paths()
    named = ssl.create_default_context(cafile=ssl.get_default_verify_paths().openssl_cafile)
    contexts = context, ssl.create_default_context(), named
    return [_handshake(context) and context.cert_store_stats() for context in contexts]
