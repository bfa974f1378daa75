"""How images are brought from another registry into this one: what is there is left alone, so that it goes on
where it was when it is done again.

Several images are brought at once. A blob is sent once; where another repository that was brought has it,
this one takes it from there.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from registry.cli.client import CallError
from registry.cli.otherregistry import attached_to, digest_under, referrers_of, sorted_tags
from registry.errors import SeatrialError
from registry.layouts.errors import LayoutError
from registry.layouts.walk import Content, Found, walk
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest
from registry.oci.manifest import parse_manifest
from registry.oci.mediatypes import INDEXES, MANIFESTS, is_foreign_layer
from registry.oci.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from registry.cli.artifactclient import ArtifactClient
    from registry.cli.otherregistry import OtherRegistry

UNTIL = "Seatrial-Grandfathered-Until"
"""The header that says until when what is brought is admitted without a verdict."""
_FAILURES_MAX = 50
"""After so many failures, one after the other, it is given up."""
_WAITING_PER_THREAD = 16
_NEVER_THERE = {"If-None-Match": "*"}
MEANWHILE = "somebody pushed to it meanwhile; it was left there"
"""Why a tag failed that was moved while it was brought."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """``names`` are repositories of the other registry, each with its name here; ``means`` says which tags
    (none: all). ``keep``: a tag that is here stays where it is. ``headers`` go with each push. ``dry_run``:
    nothing is changed."""

    names: Sequence[tuple[str, str]]
    means: Sequence[Callable[[str], bool]] = ()
    keep: bool = False
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    dry_run: bool = False
    parallel: int = 4


@dataclass(slots=True)
class Brought:
    """What became of one repository. ``moved`` are tags that stood elsewhere here, with the digest they had;
    ``absent`` is what indexes list and the other registry does not have. ``mounted`` blobs were in another
    repository here; of the others, ``shared`` ones were in a folder and were not copied."""

    repository: str
    into: str
    new: list[str] = field(default_factory=list)
    moved: list[dict[str, str]] = field(default_factory=list)
    same: int = 0
    kept: list[str] = field(default_factory=list)
    other: int = 0
    referrers: int = 0
    manifests: int = 0
    blobs: int = 0
    bytes: int = 0
    mounted: int = 0
    shared: int = 0
    absent: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)

    def fail(self, what: str, reason: str) -> None:
        """Note what could not be brought."""
        self.failed.append({"reference": what, "reason": reason})


@dataclass(frozen=True, slots=True)
class _Way:
    """From one repository into another, for one thread."""

    brought: Brought
    source: ArtifactClient
    into: ArtifactClient
    fallback: frozenset[str]
    """The tags that list referrers there."""


class _StoppedError(Exception):
    """Somebody pressed Ctrl-C, or too much failed."""


def bring(
    other: OtherRegistry,
    into: Callable[[str], ArtifactClient],
    wanted: Wanted,
    *,
    advance: Callable[[int], None],
) -> Iterator[Brought]:
    """Bring the images; each repository as it is done, in the order in which they were asked for.

    Raises:
        CallError: too much failed, one after the other.
    """
    bringing = _Bringing(other, wanted, advance)
    room = threading.BoundedSemaphore(wanted.parallel * _WAITING_PER_THREAD)
    waiting: deque[tuple[Brought, list[Future[None]]]] = deque()
    pool = ThreadPoolExecutor(wanted.parallel, thread_name_prefix="bring")
    try:
        for name, here in wanted.names:
            waiting.append(_begin(bringing, Brought(name, here), into(here), pool, room))
            while waiting and all(one.done() for one in waiting[0][1]):
                yield _ended(*waiting.popleft())
            bringing.require_hope()
        while waiting:
            yield _ended(*waiting.popleft())
            bringing.require_hope()
    finally:
        bringing.stop()
        pool.shutdown(cancel_futures=True)


def _ended(brought: Brought, futures: Sequence[Future[None]]) -> Brought:
    for one in futures:
        one.result()
    return brought


def _begin(
    bringing: _Bringing,
    brought: Brought,
    into: ArtifactClient,
    pool: ThreadPoolExecutor,
    room: threading.BoundedSemaphore,
) -> tuple[Brought, list[Future[None]]]:
    """Look at the tags of a repository, and have its images brought."""
    source = bringing.other.repository(brought.repository)
    tags = bringing.tried(brought, "its tags", lambda: sorted_tags(source, bringing.wanted.means))
    if tags is None:
        return brought, []
    at = bringing.look(source, brought, tags.wanted, pool)
    more = attached_to(tags, at)
    brought.other = tags.other + len(tags.attached) - len(more)
    for digest, names in bringing.look(source, brought, more, pool).items():
        at.setdefault(digest, []).extend(names)
    futures: list[Future[None]] = []
    for digest, names in at.items():
        room.acquire()
        way = _Way(brought, replace(source), replace(into), frozenset(tags.fallback))
        future = pool.submit(bringing.image, way, digest, names)
        future.add_done_callback(lambda _: room.release())
        futures.append(future)
    return brought, futures


class _Bringing:
    """What the threads share."""

    def __init__(self, other: OtherRegistry, wanted: Wanted, advance: Callable[[int], None]) -> None:
        self.other, self.wanted, self._advance = other, wanted, advance
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._failures, self._last = 0, ""
        self._busy: dict[tuple[str, Digest], threading.Lock] = {}
        self._referrers_here: set[tuple[str, Digest]] = set()
        self._here: set[tuple[str, Digest]] = set()
        self._at: dict[Digest, str] = {}

    def stop(self) -> None:
        """Have the threads end where they are."""
        self._stopped.set()

    def require_hope(self) -> None:
        """Give up where nothing works any more.

        Raises:
            CallError: too much failed, one after the other.
        """
        if self._failures >= _FAILURES_MAX:
            raise CallError(f"given up after {self._failures} failures in a row: {self._last}", status=0)

    def tried(self, brought: Brought, what: str, work: Callable[[], T]) -> T | None:
        """What ``work`` gives; ``None`` where it failed, which is noted, or nothing is done any more."""
        if self._stopped.is_set() or self._failures >= _FAILURES_MAX:
            return None
        try:
            done = work()
        except _StoppedError:
            return None
        except SeatrialError as error:
            with self._lock:
                self._failures, self._last = self._failures + 1, error.message
                brought.fail(what, printable(error.message))
            return None
        with self._lock:
            self._failures = 0
        return done

    def look(
        self, source: ArtifactClient, brought: Brought, tags: Sequence[str], pool: ThreadPoolExecutor
    ) -> dict[Digest, list[str]]:
        """What the tags name, each digest once."""

        found: dict[Digest, list[str]] = {}

        def one(tag: str) -> Digest | None:
            return self.tried(brought, tag, lambda: digest_under(replace(source), tag))

        for tag, digest in zip(tags, pool.map(one, tags), strict=True):
            if digest is not None:
                found.setdefault(digest, []).append(tag)
        return found

    def image(self, way: _Way, digest: Digest, names: Sequence[str]) -> None:
        """Bring one image, move its tags, and bring what refers to it."""
        content = self.tried(way.brought, ", ".join(names), lambda: self._image(way, digest, names))
        if content is not None:
            self._referrers(way, content)
        self._advance(len(names))

    def _image(self, way: _Way, digest: Digest, names: Sequence[str]) -> Content | None:
        """The image that was brought; ``None``: all of its tags stay elsewhere."""
        stands = {name: way.into.digest_at(name) for name in names}
        if all(self._stays(stood, digest) for stood in stands.values()):
            with self._lock:
                way.brought.kept += names
            return None
        raw = way.source.manifest_of(digest)
        root = Descriptor(parse_manifest(raw).media_type, digest, len(raw))
        content = walk([root], _reading(way.source, {digest: raw}), sparse=True)
        for one, found in content.manifests.items():
            # Under its tags, and not by its digest before: some repositories try only what has certain tags.
            put = partial(self._move, way, found, digest, stands) if one == digest else None
            self._manifest(way, one, found, put)
        with self._lock:
            way.brought.absent += map(str, content.absent)
        return content

    def _stays(self, stood: str | None, digest: Digest) -> bool:
        """Whether a tag that stands there is left there."""
        return self.wanted.keep and stood not in (None, str(digest))

    def _manifest(
        self, way: _Way, digest: Digest, found: Found, put: Callable[[], None] | None = None
    ) -> None:
        """Have a manifest in the repository: first what it is made of. ``put`` is called in the place of a
        push by its digest, and where it is there as well."""
        key = (way.into.name.repository, digest)
        with self._alone(key):
            is_new = key not in self._here and way.into.digest_at(digest) is None
            if is_new:  # else what it is made of is there as well
                for kind, blob in found.manifest.edges():
                    if kind == "child" and blob.media_type in MANIFESTS | INDEXES:
                        continue
                    if not (kind == "layer" and is_foreign_layer(blob.media_type)):
                        self._blob(way, blob)
            if put is not None:
                put()
            elif is_new and not self.wanted.dry_run:
                way.into.put(digest, found.raw, found.manifest.media_type, more=self.wanted.headers)
            self._note(way, digest)
            with self._lock:
                way.brought.manifests += is_new

    def _move(self, way: _Way, found: Found, digest: Digest, stands: Mapping[str, str | None]) -> None:
        """Have the tags at the image, but for those that stay."""
        for name, stood in stands.items():
            if stood == str(digest):
                with self._lock:
                    way.brought.same += 1
            elif self._stays(stood, digest):
                with self._lock:
                    way.brought.kept.append(name)
            elif self.wanted.dry_run or self._put(way, found, name, stood):
                with self._lock:
                    if stood is None:
                        way.brought.new.append(name)
                    else:
                        way.brought.moved.append({"tag": name, "from": stood, "to": str(digest)})

    def _put(self, way: _Way, found: Found, name: str, stood: str | None) -> bool:
        """Move one tag; false: somebody pushed to it meanwhile, which is not lost."""
        conditions = _NEVER_THERE if stood is None else {"If-Match": f'"{stood}"'}
        try:
            more = {**self.wanted.headers, **conditions}
            way.into.put(name, found.raw, found.manifest.media_type, more=more)
        except CallError as error:
            if error.status != HTTPStatus.PRECONDITION_FAILED:
                raise
            with self._lock:
                way.brought.fail(name, MEANWHILE)
            return False
        return True

    def _referrers(self, way: _Way, content: Content) -> None:
        """Bring what refers to an image or to what it is made of, and what refers to that."""
        subjects = list(content.manifests)
        for subject in subjects:
            look = partial(referrers_of, self.other, way.source, subject, way.fallback)
            for one in self.tried(way.brought, f"the referrers of {subject}", look) or ():
                if one.digest not in content.manifests:
                    bring_it = partial(self._referrer, way, content, one, subject)
                    what = f"{one.digest}, a referrer of {subject}"
                    subjects += self.tried(way.brought, what, bring_it) or ()

    def _referrer(self, way: _Way, content: Content, one: Descriptor, subject: Digest) -> list[Digest]:
        """Bring a referrer; the manifests that came with it."""
        before = len(content.manifests)
        walk([one], _reading(way.source, {}), content)
        added = list(content.manifests)[before:]
        said = content.manifests[one.digest].manifest.subject
        if said is None or said.digest != subject:
            raise LayoutError("invalid", f"it is listed as a referrer of {subject}, and is none")
        for each in added:
            self._manifest(way, each, content.manifests[each])
        key = (way.into.name.repository, one.digest)
        with self._lock:
            way.brought.referrers += key not in self._referrers_here
            self._referrers_here.add(key)
        return added

    def _blob(self, way: _Way, blob: Descriptor) -> None:
        """Have a blob in the repository, fetched once for all."""
        if self._stopped.is_set():
            raise _StoppedError
        with self._alone(("", blob.digest)):
            if (way.into.name.repository, blob.digest) in self._here:
                return
            if way.into.has(blob.digest):
                self._note(way, blob.digest)
                return
            origin = self._at.get(blob.digest)
            mounted = origin is not None and (self.wanted.dry_run or way.into.mount(blob.digest, origin))
            if not (mounted or self.wanted.dry_run):
                reader = _Pieces(way.source.pieces(blob), self._stopped)
                try:
                    way.into.upload(blob, reader, lambda _: None)
                except LayoutError as error:
                    raise LayoutError(error.kind, f"{way.source.name.host}: {error.message}") from None
            self._note(way, blob.digest)
            with self._lock:
                way.brought.mounted += mounted
                way.brought.blobs += not mounted
                way.brought.bytes += 0 if mounted else blob.size

    @contextmanager
    def _alone(self, key: tuple[str, Digest]) -> Iterator[None]:
        """No other thread looks for the same content, or brings it."""
        with self._lock:
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:
            yield

    def _note(self, way: _Way, digest: Digest) -> None:
        """Know that the repository has it."""
        with self._lock:
            self._here.add((way.into.name.repository, digest))
            self._at.setdefault(digest, way.into.name.repository)


class _Pieces:
    """The bytes of a blob, as an upload reads them."""

    def __init__(self, pieces: Iterator[bytes], stopped: threading.Event) -> None:
        self._pieces, self._stopped = pieces, stopped
        self._left = b""

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        if self._stopped.is_set():
            raise _StoppedError
        piece = self._left or next(self._pieces, b"")
        self._left = piece[size:]
        return piece[:size]

    def close(self) -> None:
        """Let go of the connection."""


def _reading(source: ArtifactClient, known: dict[Digest, bytes]) -> Callable[[Digest], bytes]:
    def read(digest: Digest) -> bytes:
        if digest in known:
            return known[digest]
        try:
            return source.manifest_of(digest)
        except CallError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                raise LayoutError("missing", f"{source.name.host} does not have {digest}") from None
            raise

    return read
