"""Certificate authority of all worlds: issues certificates for host names, which are the same bytes in every process.

The package cryptography creates them. Its random generator cannot be seeded; so keys and serial numbers are passed to
it, and the authority signs with RSA and PKCS #1 v1.5, which needs no random numbers. Why the keys are fixed:
docs/decisions/0012-certificates-have-one-fixed-key.md. Nothing here is secret, and it is trusted only inside of worlds.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import re
from hashlib import sha256
from typing import Any

#: Certificate of the authority itself, in PEM format.
AUTHORITY_PEM = b"""\
-----BEGIN CERTIFICATE-----
MIIDYzCCAkugAwIBAgIPHvgtAfDRquqUCtPaXh38MA0GCSqGSIb3DQEBCwUAMEsx
EDAOBgNVBAoMB3NpbWxvb3AxNzA1BgNVBAMMLnNpbWxvb3AncyBhdXRob3JpdHks
IHdob3NlIGtleSBldmVyeWJvZHkga25vd3MwIBcNMDAwMTAxMDAwMDAwWhgPMjEw
MDAxMDEwMDAwMDBaMEsxEDAOBgNVBAoMB3NpbWxvb3AxNzA1BgNVBAMMLnNpbWxv
b3AncyBhdXRob3JpdHksIHdob3NlIGtleSBldmVyeWJvZHkga25vd3MwggEiMA0G
CSqGSIb3DQEBAQUAA4IBDwAwggEKAoIBAQDSM8mG/zW9BavsXfo5oemEasJoE7io
gKJMLkfyo7faRPTQexyLWQciwnyoXzkr1nTGUJ5mor2+Jht1RCyDOlM9m9Hi0tv9
Y+6g3LlSt7VhauQFY0Wjw38XmytP/Jpiq3dnjYtlH4MJjNJWAN/3vAwyO6dBiJff
ufwdrNQhUryQKob8WNJWASdCmWO3imPG6/Cv7y+OMR+FGijCzbpHsFhtFMncCT/y
gcUNyMpSE/eKI7esWWQUyrxzYgueJ3SNLQmSlfqvg3Eq2RYn+prR66/IeYO19LdN
XbxwvDvdaWArjntyRFZ4Yh7uIeomVoWNzmFPIayAml4fa4tx/s8XcWaxAgMBAAGj
QjBAMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQWBBQn
ei3zq0Qjl7ggi8ymQOB/8zAapjANBgkqhkiG9w0BAQsFAAOCAQEAX+TRmzajRZ5/
UvfWW/l8lu0Eb6r7/boN+0q9CJR1sPShYMGR0K5KbDuK/DXz4t/BlGKGgKG4zDD3
rQt7Qc9glXDYzrB9dcg9D4WjVhFYTDHqXhgxNXXFRkMfy8R4Hm/7QymVd71u4DXs
7ofiw+EiEtwzjxxElHOboYEjSK3h+eVqNAKOXGW1dNUvgHD3jDmj1gCOPD6p8vNh
/mP3Cv902RzYO47aKRjt5Zl0hwj7wnPYt1ybOMNrNP6RuLwPJLXLNbL2PEy2M/E6
8kORuWQ+nrVvmHFD6i9bZAXWMQ9S9wlN+mk80XGvZdW5kuZgWuo8qJH7nL4LIN1p
dvd2uriGcA==
-----END CERTIFICATE-----
"""
_AUTHORITY_KEY_PEM = b"""\
-----BEGIN PRIVATE KEY-----
MIIEvwIBADANBgkqhkiG9w0BAQEFAASCBKkwggSlAgEAAoIBAQDSM8mG/zW9Bavs
Xfo5oemEasJoE7iogKJMLkfyo7faRPTQexyLWQciwnyoXzkr1nTGUJ5mor2+Jht1
RCyDOlM9m9Hi0tv9Y+6g3LlSt7VhauQFY0Wjw38XmytP/Jpiq3dnjYtlH4MJjNJW
AN/3vAwyO6dBiJffufwdrNQhUryQKob8WNJWASdCmWO3imPG6/Cv7y+OMR+FGijC
zbpHsFhtFMncCT/ygcUNyMpSE/eKI7esWWQUyrxzYgueJ3SNLQmSlfqvg3Eq2RYn
+prR66/IeYO19LdNXbxwvDvdaWArjntyRFZ4Yh7uIeomVoWNzmFPIayAml4fa4tx
/s8XcWaxAgMBAAECggEBAMXnujret7Kyz05ooLl4RsrEVSr2PmpvSd7dyCGboPLg
73oGHzbXaE+CuykvFj2+2Q0KREivumN3r2x19k7LMCoWNcMP8c2dM8PCbL2Dd0M0
B2FHOP7ZhiQslNfnJVf2xiH58x8PTylDq5kLk9LD+tukrHGX8B3VFpi96q9BHYXA
v3jXD6w7RxgxLF87agzUvzTb31n8+/rVR4Nuce34wC6M/08TfJClUiFYbcHKctNZ
y/AIvc+iJUpDtybSWUheKpv0Gvryoa3nkz/bUz01NUXzn/Q4pGjN5Ocb4vi/gmex
cExe1h/skjo1QRvHfaJvQgtJ8xy07p/v8OJ/dVOGO60CgYEA7yIbcNMhICi0a60z
hFt0hT7ATMtXZ+atV4E6XGawku2Kw9dK4suTcgHAw+AV9i6Qmtqu0eTNQk+aNT4Z
Knqit2VxIqRMexd7dVIuPTx0aRf5K/9AXghgdAEZjvsUURWAvqVZkWJGyhsGNkbo
HcYjFhWFXwjTt0Ct+Gv+XDYEShMCgYEA4QdKYJbGAjMIEgo3PHQwNjvpLdtfjYZZ
DxJpOpppMt7Um+bRgifXDMpxb5+RLUqUAe4+y6gUl0rdAN7IN9BzVP4yMgRLwdFk
ldjYaeEGIiltAUWYMh1JiGQ24drO7JQvaxnZhVOy0/szhSsb5xTH+Sc7HfB+DYoa
yM3MmtBZ5KsCgYEAnzsv2H3NpfNUyApJro2TVhJFzBzuc7IHpKfZK6P5Wayw5N0b
8U6rPJPsPsGc/hNdmK+bDwpynwAQZ/mUmlOUu9fhcLbEcoZdX+67+Wyi+0PKWECc
JMEhML12vl1z1tYhp1DFBmjRSEycY1Htx72iqVblOzXOfEymSy/l7JLPYl8CgYAl
A6n8UVCos/Qz43JKg2IayagFXvxMrzie/gxJE3USZQzbyA/WNO9ury4RilG6/XVz
C9lQbolUiX/o0LxmUedmp5liGMrNSsAc1dpjMBxuKhpAB06Nj7u0r6dHZ1J6H7Xd
DBd3ktjrfXpwATNJw2VRWl6jAhf56imVtiRdor/mmQKBgQCxDBwXNAkwu8XcDDLV
BcO2J60+S2Er2EeqXmRvg8dAjvYlyLqqy34bw9xV9cYMB99po09QX/8eG6T8TQXm
vctDcAJDRp8Na2wjF6bOFmJ0KzU4L68MQTSTVO75BnagWKbC7Ag8hWY8LFDE0/76
FqcIIihUMme206RCW2S6QlBXaw==
-----END PRIVATE KEY-----
"""

#: Private key of every certificate that the authority issues: an EC key, like that of most certificates.
KEY_PEM = b"""\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgE/27DjJE62TVHcR5
SYgMP9v2axSnI2nVhFJXa32Q3SehRANCAAQVoVw1Q32LXfQVh08BwZjryyXX+u8p
SgxTGZRTW0fhn8iiZTPIgFIQU3dijA0wWLRaqbA5ZJ+26Bpav+82MQTE
-----END PRIVATE KEY-----
"""

VALID_FROM = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
VALID_UNTIL = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)

# A label may have an underscore: containers like it. The first one may be a wildcard.
_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?")


@functools.cache
def certificate_pem(
    names: tuple[str, ...],
    valid_from: datetime.datetime = VALID_FROM,
    valid_until: datetime.datetime = VALID_UNTIL,
) -> bytes:
    """Return a certificate (PEM) for host names and IP addresses in the form of `spelled`, for servers and clients; its
    key is `KEY_PEM`. Raises `ImportError` if cryptography is not installed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    issuer = x509.load_pem_x509_certificate(AUTHORITY_PEM)
    issuer_key = serialization.load_pem_private_key(_AUTHORITY_KEY_PEM, None)
    own_key = serialization.load_pem_private_key(KEY_PEM, None)
    assert isinstance(issuer_key, rsa.RSAPrivateKey)
    assert isinstance(own_key, ec.EllipticCurvePrivateKey)
    key = own_key.public_key()
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "simloop"),
                    # Of at most 64 characters; who looks for a name looks at those below.
                    x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64]),
                ]
            )
        )
        .public_key(key)
        .serial_number(int.from_bytes(sha256(repr((names, valid_from, valid_until)).encode()).digest()[:15]))
        .not_valid_before(valid_from.astimezone(datetime.UTC))
        .not_valid_after(valid_until.astimezone(datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _general(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def spelled(name: object) -> str | None:
    """Return a host name or an IP address in the form that certificates have; None for anything else."""
    if not isinstance(name, str):
        return None
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return None
    return name.lower().rstrip(".") if len(name) <= 253 and _NAME.fullmatch(name) else None
