"""Folders in which other registries keep their repositories: distribution's (registry:2 and 3), and those of
zot and olareg, where each repository is an image layout.

They are only read, and nothing is believed: names are parsed, links are not followed, and what lies under a
digest is the reader's to verify.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from registry.errors import SeatrialError
from registry.layouts.errors import LayoutError
from registry.layouts.members import FolderMembers, read_whole
from registry.oci.digest import Digest, parse_content_digest
from registry.oci.layout import INDEX_PATH, MARKER_PATH, blob_path, parse_index
from registry.oci.manifest import MAX_BYTES, parse_manifest
from registry.oci.names import parse_repository_name, parse_tag

REPOSITORIES_MAX = 100_000
MANIFESTS_MAX = 200_000
"""Of one repository."""
_DEPTH_MAX = 32
_LINK_MAX_BYTES = 300
_HEX = re.compile(r"[0-9a-f]{64,128}")
_SUBJECT = "org.olareg.referrer.subject"
_PLACES = ("docker/registry/v2", "v2", "registry/v2", ".")


@dataclass(frozen=True, slots=True)
class KeptRepository:
    """``tags``, and ``untagged``: all other manifests that are known there. ``damaged`` says what cannot be
    read, by its name."""

    name: str
    path: Callable[[Digest], Path]
    tags: dict[str, Digest] = field(default_factory=dict)
    untagged: list[Digest] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)

    def manifest(self, digest: Digest) -> bytes:
        """The bytes that lie under a digest, not verified.

        Raises:
            LayoutError: there are none, or too many for a manifest.
        """
        fd = open_kept(self.path(digest))
        with os.fdopen(fd, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise LayoutError("invalid", f"{digest} has more than {MAX_BYTES} bytes, and is no manifest")
        return raw


def open_kept(path: Path) -> int:
    """A file that another registry keeps, to read; no link.

    Raises:
        LayoutError: there is none, or it is no file that can be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise LayoutError("missing", f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise LayoutError("missing", f"{path} is no file")
    return fd


def kept_repositories(folder: Path) -> Iterator[tuple[str, Callable[[], KeptRepository]]]:
    """The repositories in a folder, by name, each with what reads it.

    Raises:
        LayoutError: it is the folder of no registry that is known.
    """
    for place in _PLACES:
        root = folder / place
        if (root / "repositories").is_dir() and (root / "blobs").is_dir():
            yield from _of_distribution(root)
            return
    found = False
    for name, one in _below(folder, MARKER_PATH):
        found = True
        yield name, lambda name=name, one=one: _of_layout(name, one)  # type: ignore[misc]
    if not found:
        raise LayoutError(
            "missing",
            f"{folder} has neither docker/registry/v2 as distribution makes it, nor folders with oci-layout",
        )


def _of_distribution(root: Path) -> Iterator[tuple[str, Callable[[], KeptRepository]]]:
    for name, one in _below(root / "repositories", "_manifests"):
        yield name, lambda name=name, one=one: _read_distribution(root, name, one)  # type: ignore[misc]


def _read_distribution(root: Path, name: str, folder: Path) -> KeptRepository:
    kept = KeptRepository(
        name,
        lambda digest: root / "blobs" / digest.algorithm / digest.encoded[:2] / digest.encoded / "data",
    )
    for tag in _names(folder / "_manifests" / "tags"):
        try:
            digest = _link(folder / "_manifests" / "tags" / tag / "current" / "link")
            kept.tags[parse_tag(tag)] = digest
        except SeatrialError as error:
            kept.damaged[tag] = error.message
    named = set(kept.tags.values())
    revisions = folder / "_manifests" / "revisions"
    for algorithm in _names(revisions):
        for encoded in _names(revisions / algorithm):
            # One that was deleted has a folder and no link.
            if _HEX.fullmatch(encoded) and (revisions / algorithm / encoded / "link").exists():
                try:
                    digest = _link(revisions / algorithm / encoded / "link")
                except SeatrialError as error:
                    kept.damaged[f"{algorithm}:{encoded}"] = error.message
                    continue
                if digest not in named:
                    kept.untagged.append(digest)
    return kept


def _of_layout(name: str, folder: Path) -> KeptRepository:
    kept = KeptRepository(name, lambda digest: folder / blob_path(digest))
    try:
        raw = read_whole(FolderMembers(folder), INDEX_PATH, 16 * MAX_BYTES)
        entries = parse_index(raw, entries_max=MANIFESTS_MAX)
    except SeatrialError as error:
        kept.damaged[INDEX_PATH] = error.message
        return kept
    for entry in entries:
        if entry.names:
            try:
                tag = parse_tag(entry.names[0])
            except SeatrialError as error:
                kept.damaged[entry.names[0][:200]] = error.message
                continue
            if kept.tags.setdefault(tag, entry.descriptor.digest) != entry.descriptor.digest:
                kept.damaged[tag] = f"{INDEX_PATH} has several images under the name"
    for tag in kept.damaged.keys() & kept.tags.keys():
        del kept.tags[tag]
    named = set(kept.tags.values())
    untagged: dict[Digest, None] = {}
    for entry in entries:
        if _SUBJECT in entry.descriptor.annotations:
            # olareg lists what refers to an image in an index of its own, and nowhere else.
            try:
                listed = parse_manifest(kept.manifest(entry.descriptor.digest)).children
            except SeatrialError as error:
                kept.damaged[str(entry.descriptor.digest)] = error.message
                continue
            untagged |= dict.fromkeys(one.digest for one in listed)
        else:
            untagged[entry.descriptor.digest] = None
    kept.untagged.extend(one for one in untagged if one not in named)
    return kept


def _below(top: Path, marker: str) -> Iterator[tuple[str, Path]]:
    """Folders that have something of this name in them, by their path below ``top``, as far as that is a name
    of repositories."""
    count = 0
    waiting: list[tuple[tuple[str, ...], Path]] = [((), top)]
    while waiting:
        parts, folder = waiting.pop()
        inside = _folders(folder)
        if parts and os.path.lexists(folder / marker):
            count += 1
            if count > REPOSITORIES_MAX:
                raise LayoutError("invalid", f"{top} has more than {REPOSITORIES_MAX} repositories")
            yield "/".join(parts), folder
        if len(parts) < _DEPTH_MAX:
            for name in sorted(inside, reverse=True):
                try:
                    parse_repository_name("/".join((*parts, name)))
                except SeatrialError:
                    continue  # blobs and uploads of a layout, and what registries keep beside repositories
                waiting.append(((*parts, name), folder / name))


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [one.name for one in entries if one.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise LayoutError("missing", f"{folder} cannot be read: {error.strerror}") from None


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    found = sorted(_folders(folder))
    if len(found) > MANIFESTS_MAX:
        raise LayoutError("invalid", f"{folder} has more than {MANIFESTS_MAX} entries")
    return found


def _link(path: Path) -> Digest:
    with os.fdopen(open_kept(path), "rb") as file:
        text = file.read(_LINK_MAX_BYTES).decode("ascii", "replace").strip()
    return parse_content_digest(text)
