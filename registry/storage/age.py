"""Files in the format of age (https://c2sp.org/age, version 1), to one or several X25519 keys.

Whoever has the public key writes, only who has the identity reads; ``age`` and ``rage`` read and write the
same files. A header wraps a key of the file's own for each recipient. The content follows in chunks of 64
KiB, each of which is authenticated before any of it is given away: ChaCha20-Poly1305 under a nonce that
counts the chunks and marks the last, so that none can be left out, moved or cut off. Nothing here does IO;
memory is that of a chunk.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from registry.storage import bech32

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_VERSION = b"age-encryption.org/v1\n"
_STANZA_INFO = b"age-encryption.org/v1/X25519"
_RECIPIENT, _IDENTITY = "age", "age-secret-key-"
_KEY_BYTES, _FILE_KEY_BYTES, _NONCE_BYTES, _TAG_BYTES = 32, 16, 16, 16
_CHUNK_BYTES = 64 << 10
_SEALED_BYTES = _CHUNK_BYTES + _TAG_BYTES
_LINE = 64
_HEADER_MOST = 1 << 16
_NO_NONCE = bytes(12)


class NoKeyError(ValueError):
    """A file was encrypted for others."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key, by which files are written."""

    public: bytes

    def __str__(self) -> str:
        return bech32.encode(_RECIPIENT, self.public)


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A private key, by which files are read."""

    private: bytes

    @classmethod
    def make(cls) -> Identity:
        """A new one."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    @property
    def recipient(self) -> Recipient:
        """Its public half."""
        return Recipient(X25519PrivateKey.from_private_bytes(self.private).public_key().public_bytes_raw())

    def text(self) -> str:
        """As ``age-keygen`` writes it. Whoever reads it, reads all."""
        return bech32.encode(_IDENTITY, self.private).upper()


def parse_recipient(text: str) -> Recipient:
    """Read ``age1…``.

    Raises:
        ValueError: it is none.
    """
    return Recipient(_parse_key(text, _RECIPIENT))


def parse_identities(text: str) -> tuple[Identity, ...]:
    """Read a file as ``age-keygen`` writes it: one identity a line, with comments between.

    Raises:
        ValueError: a line is none, or there is none. Nothing of the file is in the message.
    """
    lines = [line.strip() for line in text.splitlines()]
    found = tuple(
        Identity(_parse_key(line, _IDENTITY)) for line in lines if line and not line.startswith("#")
    )
    if not found:
        raise ValueError("there is no AGE-SECRET-KEY-1… in it")
    return found


def encrypted_size(plain_bytes: int, recipients: int) -> int:
    """How long the file of so many bytes is, for so many recipients."""
    chunks = max(-(-plain_bytes // _CHUNK_BYTES), 1)
    stanza = len(_stanza(bytes(_KEY_BYTES), bytes(_FILE_KEY_BYTES + _TAG_BYTES)))
    header = len(_VERSION) + recipients * stanza + len(b"--- \n") + len(_base64(bytes(32)))
    return header + _NONCE_BYTES + plain_bytes + chunks * _TAG_BYTES


class Encryptor:
    """Makes one file: :meth:`start`, then :meth:`add` for what is to be kept, then :meth:`finish`."""

    def __init__(self, recipients: Sequence[Recipient]) -> None:
        self._file_key = secrets.token_bytes(_FILE_KEY_BYTES)
        self._recipients = recipients
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._cipher = _payload_cipher(self._file_key, self._nonce)
        self._held = bytearray()
        self._chunks = 0

    def start(self) -> bytes:
        """What the file begins with."""
        header = _VERSION + b"".join(_wrapped(self._file_key, one) for one in self._recipients) + b"---"
        return header + b" " + _base64(_header_mac(self._file_key, header)) + b"\n" + self._nonce

    def add(self, content: bytes) -> Iterator[bytes]:
        """Take some more; gives what the file goes on with."""
        self._held += content
        while len(self._held) > _CHUNK_BYTES:
            yield self._sealed(bytes(self._held[:_CHUNK_BYTES]), last=False)
            del self._held[:_CHUNK_BYTES]

    def finish(self) -> bytes:
        """What the file ends with."""
        return self._sealed(bytes(self._held), last=True)

    def _sealed(self, content: bytes, *, last: bool) -> bytes:
        nonce = _chunk_nonce(self._chunks, last=last)
        self._chunks += 1
        return self._cipher.encrypt(nonce, content, None)


class Decryptor:
    """Reads one file: :meth:`add` for all that it is made of, then :meth:`finish`.

    All methods raise ``ValueError`` for a file that is damaged, cut off or no such file, and
    :class:`NoKeyError` for one that is for others.
    """

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._identities = identities
        self._file_key = b""
        self._cipher: ChaCha20Poly1305 | None = None
        self._held = bytearray()
        self._chunks = 0

    def add(self, piece: bytes) -> Iterator[bytes]:
        """Take some more of the file; gives what it says."""
        self._held += piece
        if self._cipher is None:
            self._begin()
        while self._cipher is not None and len(self._held) > _SEALED_BYTES:
            yield self._opened(bytes(self._held[:_SEALED_BYTES]), last=False)
            del self._held[:_SEALED_BYTES]

    def finish(self) -> bytes:
        """The last of what it says; only now it is known that nothing was cut off."""
        if self._cipher is None:
            raise ValueError("it ends within its header")
        content = self._opened(bytes(self._held), last=True)
        if not content and self._chunks > 1:
            raise ValueError("its last chunk is empty")
        return content

    def _begin(self) -> None:
        if not self._file_key:
            end = _header_end(self._held)
            if end is None:
                return
            self._file_key = _unwrapped(bytes(self._held[:end]), self._identities)
            del self._held[:end]
        if len(self._held) >= _NONCE_BYTES:
            self._cipher = _payload_cipher(self._file_key, bytes(self._held[:_NONCE_BYTES]))
            del self._held[:_NONCE_BYTES]

    def _opened(self, sealed: bytes, *, last: bool) -> bytes:
        assert self._cipher is not None
        nonce = _chunk_nonce(self._chunks, last=last)
        self._chunks += 1
        try:
            return self._cipher.decrypt(nonce, sealed, None)
        except InvalidTag:
            raise ValueError("it is damaged or cut off") from None


def _header_end(held: bytearray) -> int | None:
    """Where the content begins; ``None``: not seen yet."""
    begin = held[: len(_VERSION)]
    if not _VERSION.startswith(begin):
        raise ValueError("it is no age file of version 1")
    mark = held.find(b"\n---", 0, _HEADER_MOST)
    end = held.find(b"\n", mark + 1, _HEADER_MOST) if mark >= 0 else -1
    if end < 0 and len(held) >= _HEADER_MOST:
        raise ValueError("its header is too long")
    return end + 1 if end >= 0 else None


def _unwrapped(header: bytes, identities: Sequence[Identity]) -> bytes:
    """The file's key."""
    *lines, mac_line = header[len(_VERSION) : -1].split(b"\n")
    if not mac_line.startswith(b"--- "):
        raise ValueError("its header is no header of age")
    mac = _from_base64(mac_line[4:])
    found = b""
    for arguments, body in _stanzas(lines):
        if arguments[0] != b"X25519":
            continue
        share = _from_base64(arguments[1]) if len(arguments) == 2 else b""
        if len(share) != _KEY_BYTES or len(body) != _FILE_KEY_BYTES + _TAG_BYTES:
            raise ValueError("its header has a stanza of another length")
        for identity in identities:
            found = found or _open_stanza(share, body, identity)
    if not found:
        raise NoKeyError("it was encrypted to none of the given keys")
    if not hmac.compare_digest(mac, _header_mac(found, header[: -len(mac_line) - 1] + b"---")):
        raise ValueError("its header was changed")
    return found


def _stanzas(lines: list[bytes]) -> Iterator[tuple[list[bytes], bytes]]:
    rest = iter(lines)
    for line in rest:
        arguments = line.split(b" ")
        if arguments[0] != b"->" or len(arguments) < 2 or not all(map(_is_visible, arguments[1:])):
            raise ValueError("its header is no header of age")
        body = b""
        while True:
            part = next(rest, None)
            if part is None or len(part) > _LINE:
                raise ValueError("its header is no header of age")
            body += part
            if len(part) < _LINE:
                break
        yield arguments[1:], _from_base64(body)


def _is_visible(word: bytes) -> bool:
    return bool(word) and all(0x21 <= letter <= 0x7E for letter in word)


def _open_stanza(share: bytes, body: bytes, identity: Identity) -> bytes:
    """The file's key, or nothing if it was wrapped for another."""
    private = X25519PrivateKey.from_private_bytes(identity.private)
    # A point of low order, which makes no secret, raises ValueError.
    shared = private.exchange(X25519PublicKey.from_public_bytes(share))
    key = _derived(shared, salt=share + identity.recipient.public, info=_STANZA_INFO)
    try:
        return ChaCha20Poly1305(key).decrypt(_NO_NONCE, body, None)
    except InvalidTag:
        return b""


def _wrapped(file_key: bytes, recipient: Recipient) -> bytes:
    ephemeral = X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient.public))
    key = _derived(shared, salt=share + recipient.public, info=_STANZA_INFO)
    return _stanza(share, ChaCha20Poly1305(key).encrypt(_NO_NONCE, file_key, None))


def _stanza(share: bytes, body: bytes) -> bytes:
    return b"-> X25519 " + _base64(share) + b"\n" + _base64(body) + b"\n"


def _payload_cipher(file_key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(_derived(file_key, salt=nonce, info=b"payload"))


def _header_mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derived(file_key, salt=b"", info=b"header"), header, "sha256")


def _derived(secret: bytes, *, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt or None, info=info).derive(secret)


def _chunk_nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _base64(content: bytes) -> bytes:
    return base64.b64encode(content).rstrip(b"=")


def _from_base64(text: bytes) -> bytes:
    try:
        content = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("its header is no header of age") from None
    if _base64(content) != text:
        raise ValueError("its header is no header of age")
    return content


def _parse_key(text: str, prefix: str) -> bytes:
    found, content = bech32.decode(text)
    if found != prefix or len(content) != _KEY_BYTES:
        raise ValueError(f"it is no {prefix}1…")
    return content
