"""cryptography and trustme: code in Rust that asks for instances of `datetime.datetime` itself."""

from __future__ import annotations

import datetime

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed: pip install pytest-simloop[libraries]")

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

import simloop
from simloop.simulation import install as installation


def certificate() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256())


async def made() -> tuple[x509.Certificate, x509.Certificate]:
    return certificate(), x509.load_pem_x509_certificate(trustme.CA().cert_pem.bytes())


def test_certificates_are_made_inside_of_worlds_and_after_them() -> None:
    own, authority = simloop.run(made)
    assert own.not_valid_before_utc == datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert authority.not_valid_before_utc < own.not_valid_before_utc < authority.not_valid_after_utc
    installation.install()  # as in a plain test of the same session
    assert certificate().not_valid_before_utc != own.not_valid_before_utc
