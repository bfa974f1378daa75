"""Backups: what one is made of, and how it is read.

A target holds any number of backups of one registry, which share the bytes of blobs::

    seatrial-backups.json         for whom everything here is encrypted, if it is
    backups/ID.json               a backup: written last, so that there is no half one
    rows/ID.sqlite.zst            all rows, as they stood at one moment: a database of SQLite
    lists/ID.txt.zst              its blobs, a line each: digest and bytes
    keys/ID                       the secret key; only where it is encrypted
    blobs/NN/DIGEST               a blob by its digest, of which NN are the first two digits

Encrypted files end with ``.age`` and are what ``age`` reads (:mod:`registry.storage.age`). The two JSON files
and the lists are never encrypted: they tell digests, counts and times, and let old backups go without a key.
"""

from __future__ import annotations

import re
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from registry.errors import ConflictError, NotFoundError, RequestInvalidError
from registry.oci.digest import parse_digest
from registry.storage.age import Decryptor, Encryptor, NoKeyError, encrypted_size, parse_recipient

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Sequence
    from hashlib import _Hash

    from registry.oci.digest import Digest
    from registry.storage.age import Identity, Recipient
    from registry.storage.backuptarget import BackupTarget

HEAD = "seatrial-backups.json"
FORMAT = 1
_DOCUMENT_MOST = 64 << 20
_PIECE_BYTES = 1 << 18
_ZSTD_LEVEL = 6
_LISTED = re.compile(rb"(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}) ([0-9]{1,18})")


class Head(BaseModel):
    """What all backups of a target have in common."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int
    recipients: tuple[str, ...]
    """Public keys of age; none: nothing is encrypted."""


class TableRows(BaseModel):
    """The rows of a table, and the checksum of all of them (:func:`registry.db.tablecopy.checksum`)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rows: int
    checksum: str


class Backup(BaseModel):
    """One backup. ``new_blobs`` were not in the target before; ``missing`` are those that the registry's own
    store did not have whole, by digest, each with the reason."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    made_at: datetime
    version: str
    schema_version: str
    rows: int
    tables: dict[str, TableRows]
    database_digest: str
    database_bytes: int
    """Of the database of SQLite, before it was compressed."""
    blobs: int
    blob_bytes: int
    new_blobs: int
    new_bytes: int
    missing: dict[str, str]
    encrypted: bool
    has_secret_key: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A blob of a backup; ``size`` is that of the blob itself."""

    digest: Digest
    size: int

    @property
    def name(self) -> str:
        """Where it is kept."""
        return f"blobs/{self.digest.encoded[:2]}/{self.digest.encoded}"


@dataclass(frozen=True, slots=True)
class Backups:
    """A target that was opened. ``identities`` are the keys to read what is encrypted."""

    target: BackupTarget
    recipients: tuple[Recipient, ...]
    identities: tuple[Identity, ...] = ()

    def encrypted_name(self, name: str) -> str:
        """What a file that is encrypted, if anything is, is called."""
        return f"{name}.age" if self.recipients else name

    def stored_bytes(self, plain_bytes: int) -> int:
        """How long a file is that says so many bytes."""
        return encrypted_size(plain_bytes, len(self.recipients)) if self.recipients else plain_bytes

    async def put(self, name: str, chunks: AsyncIterable[bytes]) -> None:
        """Keep something, encrypted if anything is."""
        if self.recipients:
            chunks = _encrypted(chunks, self.recipients)
        await self.target.put(self.encrypted_name(name), chunks)

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """What is kept under this name, decrypted.

        Raises:
            NotFoundError: on entering; there is no such file.
            ConflictError: it is encrypted and no key was given; while it is read: it is damaged.
            RequestInvalidError: while it is read: it was encrypted for others.
        """
        if self.recipients and not self.identities:
            raise ConflictError("these backups are encrypted: give the key that reads them, with --identity")
        async with self.target.open(self.encrypted_name(name)) as there:
            yield _decrypted(there.chunks(), self.identities, name) if self.recipients else there.chunks()

    async def all(self) -> list[Backup]:
        """All that are whole, the oldest first."""
        files = await self.target.sizes("backups")
        names = sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))
        return [await self._read(name) for name in names]

    async def find(self, name: str | None) -> Backup:
        """The backup of this name, or the newest.

        Raises:
            NotFoundError: there is none.
        """
        if name is None:
            names = [one for one in await self.target.sizes("backups") if one.endswith(".json")]
            if not names:
                raise NotFoundError("there is no backup here; one that was interrupted is none")
            name = max(names).removesuffix(".json")
        if "/" in name:
            raise NotFoundError(f"there is no backup {name}")
        return await self._read(name)

    async def _read(self, name: str) -> Backup:
        try:
            found = Backup.model_validate_json(await read_small(self.target, f"backups/{name}.json"))
        except NotFoundError:
            raise NotFoundError(f"there is no backup {name}") from None
        except ValidationError:
            raise ConflictError(f"backups/{name}.json is damaged, or of a newer version") from None
        if found.id != name:  # other files are called by its id, which whoever writes there may choose
            raise ConflictError(f"backups/{name}.json is damaged: it says that it is {found.id[:80]!r}")
        return found

    async def listed(self, backup: Backup) -> AsyncIterator[Listed]:
        """All blobs of a backup but those that are missing.

        Raises:
            NotFoundError, ConflictError: the list is not there, or damaged.
        """
        rest = b""
        name = f"lists/{backup.id}.txt.zst"
        async with self.target.open(name) as there:
            async for piece in decompressed(there.chunks(), name):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    match = _LISTED.fullmatch(line)
                    if match is None:
                        raise ConflictError(f"{name} is damaged")
                    yield Listed(parse_digest(match[1].decode()), int(match[2]))
        if rest:
            raise ConflictError(f"{name} is cut off")


async def open_backups(
    target: BackupTarget, *, identities: tuple[Identity, ...] = (), recipients: tuple[Recipient, ...] = ()
) -> Backups:
    """Open a target that holds backups. ``recipients``: whom the caller expects to be able to read them.

    Raises:
        NotFoundError: it holds none.
        ConflictError: it is encrypted for others; it is of a newer version.
    """
    try:
        head = Head.model_validate_json(await read_small(target, HEAD))
        known = tuple(parse_recipient(one) for one in head.recipients)
    except NotFoundError:
        raise NotFoundError("there are no backups here, or they are somewhere else") from None
    except ValueError:  # and ValidationError, which is one
        raise ConflictError(f"{HEAD} is damaged") from None
    if head.format != FORMAT:
        raise ConflictError(
            f"the backups have the form {head.format}, of a newer version; this reads {FORMAT}"
        )
    if recipients and set(recipients) != set(known):
        raise ConflictError(
            "the backups here are "
            + (f"encrypted for {', '.join(head.recipients)}" if known else "not encrypted")
            + ": give the same key, or another target"
        )
    return Backups(target, known, identities)


async def make_head(target: BackupTarget, recipients: tuple[Recipient, ...]) -> Backups:
    """Begin to keep backups in a target that is empty."""
    head = Head(format=FORMAT, recipients=tuple(map(str, recipients)))
    await target.put(HEAD, once(head.model_dump_json(indent=2).encode() + b"\n"))
    return Backups(target, recipients)


async def read_small(target: BackupTarget, name: str) -> bytes:
    """A document as a whole.

    Raises:
        NotFoundError: there is none.
        ConflictError: it is larger than any that was written.
    """
    async with target.open(name) as there:
        if there.size > _DOCUMENT_MOST:
            raise ConflictError(f"{name} is too large to be one of ours")
        return b"".join([chunk async for chunk in there.chunks()])


async def once(content: bytes) -> AsyncIterator[bytes]:
    """The bytes, as what arrives piece by piece."""
    yield content


async def compressed(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """As zstd."""
    compressor = zstd.ZstdCompressor(level=_ZSTD_LEVEL)
    async for chunk in chunks:
        if packed := compressor.compress(chunk):
            yield packed
    yield compressor.flush()


async def decompressed(chunks: AsyncIterable[bytes], name: str) -> AsyncIterator[bytes]:
    """From zstd, in bounded pieces. ``name`` is what messages call it.

    Raises:
        ConflictError: it is damaged or cut off.
    """
    decompressor = zstd.ZstdDecompressor()
    async for chunk in chunks:
        packed = chunk
        while not decompressor.eof:
            try:
                piece = decompressor.decompress(packed, _PIECE_BYTES)
            except zstd.ZstdError:
                raise ConflictError(f"{name} is damaged") from None
            if piece:
                yield piece
            elif decompressor.needs_input:
                break
            packed = b""
    if not decompressor.eof:
        raise ConflictError(f"{name} is cut off")


async def hashed(chunks: AsyncIterable[bytes], state: _Hash) -> AsyncIterator[bytes]:
    """The same, with each piece added to ``state``."""
    async for chunk in chunks:
        state.update(chunk)
        yield chunk


async def _encrypted(chunks: AsyncIterable[bytes], recipients: Sequence[Recipient]) -> AsyncIterator[bytes]:
    encryptor = Encryptor(recipients)
    yield encryptor.start()
    async for chunk in chunks:
        for piece in encryptor.add(chunk):
            yield piece
    yield encryptor.finish()


async def _decrypted(
    chunks: AsyncIterable[bytes], identities: Sequence[Identity], name: str
) -> AsyncIterator[bytes]:
    decryptor = Decryptor(identities)
    try:
        async for chunk in chunks:
            for piece in decryptor.add(chunk):
                yield piece
        yield decryptor.finish()
    except NoKeyError:
        raise RequestInvalidError("these backups were encrypted for others than the given key") from None
    except ValueError as error:
        raise ConflictError(f"{name} cannot be decrypted: {error}") from None
