"""A layout written as a folder that may be there already.

Content that it has is left alone, down to its times, so that rsync and backups see nothing but what is new.
The index comes last, by rename.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from registry.errors import SeatrialError
from registry.layouts.errors import LayoutError
from registry.layouts.members import PIECE_BYTES, FolderMembers, read_whole
from registry.layouts.writing import JsonEntry, verified
from registry.oci.descriptor import as_list, as_object
from registry.oci.layout import CONTENT_TIME, INDEX_PATH, MARKER, MARKER_PATH, blob_path, check_marker
from registry.oci.manifest import MAX_BYTES
from registry.oci.strictjson import JsonInvalidError, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from registry.oci.digest import Digest

UNFINISHED = ".unfinished"
"""Has what was begun, for the next time; no part of the layout."""


class FolderTarget:
    """A folder, locked while the context lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unfinished = folder / UNFINISHED
        self._index = b""
        self._lock = -1
        self._is_new = not folder.exists()

    def __enter__(self) -> FolderTarget:
        with _told(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                raise LayoutError("invalid", f"another export writes to {self._folder}") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_new:
            with suppress(OSError):
                self._folder.rmdir()  # nothing came into it
        os.close(self._lock)

    def entries(self) -> list[JsonEntry]:
        """As :class:`Target` says."""
        members = FolderMembers(self._folder)
        if members.size(MARKER_PATH) is None:
            if any(one.name != UNFINISHED for one in self._folder.iterdir()):
                raise LayoutError("invalid", f"{self._folder} has files in it and is no image layout")
            return []
        try:
            check_marker(read_whole(members, MARKER_PATH, MAX_BYTES))
            if members.size(INDEX_PATH) is None:
                return []
            index = parse_json_object(read_whole(members, INDEX_PATH, MAX_BYTES))
            listed = as_list(index.get("manifests") or [], "manifests")
            return [as_object(one, "manifests") for one in listed]
        except LayoutError:
            raise
        except (SeatrialError, JsonInvalidError) as error:
            raise LayoutError("invalid", f"{self._folder} is no image layout: {error}") from None

    def begin(self, index: bytes, beside: Mapping[str, bytes]) -> None:
        """As :class:`Target` says."""
        self._index = index
        with _told(self._folder):
            if not (self._folder / MARKER_PATH).exists():
                self._place(MARKER_PATH, MARKER)

    def holds(self, digest: Digest, size: int) -> bool:
        """As :class:`Target` says. What has its name was verified before it got it."""
        return FolderMembers(self._folder).size(blob_path(digest)) == size

    def add(
        self,
        digest: Digest,
        size: int,
        pieces: Callable[[int], Iterator[bytes]],
        advance: Callable[[int], None],
    ) -> None:
        """As :class:`Target` says. It goes on where it was broken off the last time."""
        path, part = (
            self._folder / blob_path(digest),
            self._unfinished / f"{digest.algorithm}-{digest.encoded}",
        )
        with _told(self._folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.parent.mkdir(exist_ok=True)
            with part.open("a+b") as file:
                state, done = _hashed(file, digest, size)
                advance(done)
                try:
                    for piece in verified(digest, size, pieces(done), state, done):
                        file.write(piece)
                        advance(len(piece))
                except LayoutError:
                    file.truncate(0)
                    if not done:
                        raise
                    # It may be the beginning that a crash has spoilt.
                    for piece in verified(digest, size, pieces(0), hashlib.new(digest.algorithm)):
                        file.write(piece)
                file.flush()
                os.utime(file.fileno(), (CONTENT_TIME, CONTENT_TIME))
                os.fsync(file.fileno())
            part.replace(path)

    def finish(self) -> None:
        """As :class:`Target` says."""
        with _told(self._folder):
            for blobs in (self._folder / "blobs").glob("*"):
                _sync(blobs)
            index = self._folder / INDEX_PATH
            if not index.exists() or index.read_bytes() != self._index:
                self._place(INDEX_PATH, self._index)
            shutil.rmtree(self._unfinished, ignore_errors=True)

    def _place(self, name: str, content: bytes) -> None:
        self._unfinished.mkdir(exist_ok=True)
        new = self._unfinished / name
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._folder / name)
        _sync(self._folder)


def _hashed(file: IO[bytes], digest: Digest, size: int) -> tuple[hashlib._Hash, int]:
    """What is there of some content, and how much; of more than there may be nothing."""
    state, done = hashlib.new(digest.algorithm), 0
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        state.update(piece)
        done += len(piece)
    if done < size or (done == size and state.hexdigest() == digest.encoded):
        return state, done
    file.truncate(0)
    return hashlib.new(digest.algorithm), 0


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Tell what the file system says as something about the folder."""
    try:
        yield
    except OSError as error:
        raise LayoutError("invalid", f"{folder} cannot be written: {error.strerror}") from None
