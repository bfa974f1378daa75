"""The files that a layout is made of, wherever they lie."""

from __future__ import annotations

import os
import posixpath
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from registry.layouts.errors import LayoutError
from registry.oci.layout import INDEX_PATH, MARKER_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PIECE_BYTES = 1024 * 1024
MEMBERS_MAX = 100_000
_VERIFIED = "blobs/"


class Reader(Protocol):
    """The bytes of one file, from its beginning."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""

    def close(self) -> None:
        """Let go of it."""


class Members(Protocol):
    """Files by their path below the layout. It promises nothing about what is in them."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def size(self, path: str) -> int | None:
        """How many bytes the file has; ``None`` where there is none."""

    def open(self, path: str) -> Reader:
        """The file's bytes.

        Raises:
            LayoutError: there is none.
        """

    def close(self) -> None:
        """Let go of all of it."""


def read_whole(members: Members, path: str, max_bytes: int) -> bytes:
    """A small file.

    Raises:
        LayoutError: there is none, or it has more than ``max_bytes``.
    """
    with closing(members.open(path)) as reader:
        found = b""
        while len(found) <= max_bytes and (piece := reader.read(max_bytes + 1 - len(found))):
            found += piece
    if len(found) > max_bytes:
        raise LayoutError("invalid", f"{path[:100]} of {members.name} has more than {max_bytes} bytes")
    return found


def pieces(reader: Reader) -> Iterator[bytes]:
    """All of it, in pieces of at most 1 MiB."""
    while piece := reader.read(PIECE_BYTES):
        yield piece


def safe_path(path: str, where: str) -> str:
    """The path of an archive's member below the archive's root.

    Raises:
        LayoutError: it leads out of it.
    """
    if path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/"):
        raise LayoutError("invalid", f"{where} has a member {path[:100]!r}, which leads out of it")
    return posixpath.normpath(path)


class FolderMembers:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = f"the layout {folder.name}"

    def size(self, path: str) -> int | None:
        """As :class:`Members` says."""
        try:
            found = (self._folder / path).stat()
        except OSError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open(self, path: str) -> Reader:
        """As :class:`Members` says. What no digest verifies lies in the folder, wherever links lead."""
        if path not in (MARKER_PATH, INDEX_PATH) and not path.startswith(_VERIFIED):
            top, leads = os.path.realpath(self._folder), os.path.realpath(self._folder / path)
            if os.path.commonpath((top, leads)) != top:
                raise LayoutError("invalid", f"{path[:100]} leads out of {self.name}")
        try:
            fd = os.open(self._folder / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise LayoutError("missing", f"{self.name} has no readable {path}: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise LayoutError("missing", f"{path} in {self.name} is no file")
        return os.fdopen(fd, "rb")

    def close(self) -> None:
        """Nothing is held open."""
