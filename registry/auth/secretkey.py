"""The secret key: wraps the private keys that stand in the database, and makes secrets that are in no row."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from registry.auth.privatefiles import make_private
from registry.settings import Settings, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True, repr=False)
class SecretKey:
    """AES-256-GCM; what is wrapped is bound to a name, so that one key's row cannot pass for another's."""

    _key: bytes

    def wrap(self, private: bytes, *, name: str) -> bytes:
        """Encrypt ``private`` for :meth:`unwrap` with the same name."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._key).encrypt(nonce, private, name.encode())

    def unwrap(self, wrapped: bytes, *, name: str) -> bytes:
        """What was wrapped.

        Raises:
            SettingsError: wrapped with another secret key, under another name, or damaged.
        """
        try:
            return AESGCM(self._key).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], name.encode())
        except InvalidTag:
            raise SettingsError(
                f"the key {name} in the database was not wrapped with this secret key; give the secret key "
                "that the database was first started with (SEATRIAL_SECRET_KEY_FILE)"
            ) from None

    def derive(self, text: bytes, *, name: str) -> bytes:
        """256 bits that only holders of this key can tell from ``text``, and for that name alone."""
        return hmac.digest(hmac.digest(self._key, name.encode(), "sha256"), text, "sha256")


def open_secret_key(settings: Settings) -> SecretKey:
    """The key of ``secret_key_file``, or of ``DATA/secret.key``, which is made where it is missing.

    Raises:
        SettingsError: the file cannot be read or holds no key.
    """
    path = secret_key_path(settings)
    made = base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    try:
        if settings.secret_key_file is None and not path.exists():
            text = make_private(path, made)
        else:
            text = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError(f"secret_key_file: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    return parse_secret_key(text, path)


def secret_key_path(settings: Settings) -> Path:
    """Where the key is, or will be."""
    return settings.secret_key_file or settings.data / "secret.key"


def parse_secret_key(text: str, path: Path) -> SecretKey:
    """The key that the file at ``path`` holds as ``text``.

    Raises:
        SettingsError: it is none.
    """
    try:
        key = base64.urlsafe_b64decode(text)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(f"secret_key_file: {path} must hold {KEY_BYTES} bytes in base64 (URL alphabet)")
    return SecretKey(key)
