"""A certificate of the registry's own, for one host that has none: kept in the data folder, for the names
that clients use.

It is no authority: a client that trusts it trusts these names and nothing else.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from registry.auth.privatefiles import write_private
from registry.http.tls import CertificateError

if TYPE_CHECKING:
    from pathlib import Path

    from registry.settings import Settings

DAYS = 820
"""Some clients take no certificate that is valid for longer."""
RENEW_DAYS = 30
_LOCAL = ("localhost", "127.0.0.1", "::1")
_WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104  (compared with, not listened on)


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """Where certificate and key are, the names in it, and whether it was made just now."""

    certificate: Path
    key: Path
    names: tuple[str, ...]
    made: bool


def ensure_self_signed(settings: Settings) -> SelfSigned:
    """The certificate in the data folder; made anew where there is none, it lacks a name that clients use, or
    its time is nearly over. Of several processes one makes it.

    Raises:
        CertificateError: the folder cannot be written to.
    """
    folder = settings.data / "tls"
    try:
        return _ensured(settings, folder)
    except OSError as error:
        raise CertificateError(f"TLS: {folder} cannot be written to: {error.strerror}") from None


def _ensured(settings: Settings, folder: Path) -> SelfSigned:
    folder.mkdir(exist_ok=True)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    wanted = names_of(settings)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        present = _usable_names(certificate) if key.exists() else ()
        made = not set(wanted) <= set(present)
        if made:
            _make(certificate, key, wanted)
    return SelfSigned(certificate, key, wanted if made else present, made)


def certificate_files(settings: Settings) -> tuple[Path, Path]:
    """Certificate and key to serve with: those of the settings, else the registry's own.

    Raises:
        CertificateError: as :func:`ensure_self_signed`.
    """
    if settings.tls_certificate_file is not None and settings.tls_key_file is not None:
        return settings.tls_certificate_file, settings.tls_key_file
    own = ensure_self_signed(settings)
    return own.certificate, own.key


def names_of(settings: Settings) -> tuple[str, ...]:
    """What clients may call this registry: the external URL's host, the address listened on, this host."""
    names = []
    if settings.external_url:
        names.append(urlsplit(settings.external_url).hostname or "")
    wild = settings.listen_host in _WILDCARDS
    names.append(socket.gethostname().lower() if wild else settings.listen_host)
    return tuple(dict.fromkeys(name for name in (*names, *_LOCAL) if name))


def _usable_names(path: Path) -> tuple[str, ...]:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return ()
    if found.not_valid_after_utc - datetime.now(UTC) < timedelta(days=RENEW_DAYS):
        return ()
    return tuple(str(name.value) for name in names)


def _make(certificate: Path, key: Path, names: tuple[str, ...]) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Seatrial at {names[0]}"[:64])])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .sign(private, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(key, plain.decode("ascii"))
    write_private(certificate, signed.public_bytes(pem).decode("ascii"))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
