"""What a registry should do, in one page: two repositories, three actors, and a pure function from a state
and an operation to the next state and the answer. Tests play the same operations over HTTP and compare.

Contents differ by ``seed``, so that many plays share one registry and see nothing of each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Literal

from tests.kit.distribution import small_index, small_manifest
from tests.kit.images import OCI_INDEX, OCI_MANIFEST, descriptor

Actor = Literal["admin", "reader", "nobody"]
Answer = tuple[object, ...]
"""The status, and what the body or the headers said."""

REPOS = ("one", "two")
TAGS = ("a", "b", "c")
SLOTS = (0, 1)
CONFIG, EMPTY = 0, 1
BLOBS = range(5)
_SIZES = (0, 0, 600, 70_000, 300_001)
UPLOADED = 4
"""The blob that the operations on upload sessions carry, in these parts."""
PARTS = ((0, 100_000), (100_000, _SIZES[UPLOADED]))


@dataclass(frozen=True, slots=True)
class Item:
    """A manifest of the play, and what it needs."""

    raw: bytes
    media_type: str = OCI_MANIFEST
    blobs: tuple[int, ...] = ()
    subject: str | None = None
    artifact_type: str | None = None
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        """What it is pushed and asked for by."""
        return f"{self.algorithm}:{hashlib.new(self.algorithm, self.raw).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Contents:
    """The blobs and manifests of one play. Its repositories are named after ``prefix``, so that several may
    play with the same contents."""

    prefix: str
    seed: str
    blobs: tuple[bytes, ...]
    items: Mapping[str, Item]

    def name(self, repo: int) -> str:
        """The full name of a repository."""
        return f"{self.prefix}-{REPOS[repo]}"


@cache
def contents_of(seed: str, prefix: str | None = None) -> Contents:
    """All that is pushed under this seed; repositories are named after it too if there is no ``prefix``."""
    config = (
        f'{{"architecture":"amd64","os":"linux","author":"{seed}",'
        '"config":{},"rootfs":{"type":"layers","diff_ids":[]}}'
    ).encode()
    blobs = [_filled(f"{seed}/{i};", size) if i else config for i, size in enumerate(_SIZES)]
    about = "application/vnd.example.about"
    items: dict[str, Item] = {}

    def image(key: str, layers: list[int], **members: object) -> bytes:
        annotations = {"key": f"{seed} {key}"}
        return small_manifest([blobs[i] for i in layers], config, annotations=annotations, **members)

    items["image-0"] = Item(image("image-0", [2]), blobs=(CONFIG, 2))
    items["image-1"] = Item(image("image-1", [1, 3]), blobs=(CONFIG, 1, 3))
    items["image-512"] = Item(image("image-512", [4]), blobs=(CONFIG, 4), algorithm="sha512")
    raw = small_index(items["image-0"].raw, items["image-1"].raw, annotations={"key": f"{seed} index"})
    items["index"] = Item(raw, OCI_INDEX)
    for key, subject, layers in (("signature", "image-0", [3]), ("bill", "image-0", [2])):
        target = items[subject]
        raw = image(key, layers, subject=descriptor(target.raw, target.media_type), artifactType=about)
        items[key] = Item(raw, blobs=(CONFIG, *layers), subject=subject, artifact_type=about)
    target = items["index"]
    raw = small_index(
        subject=descriptor(target.raw, target.media_type), annotations={"key": f"{seed} listing"}
    )
    items["listing"] = Item(raw, OCI_INDEX, subject="index")
    return Contents(prefix or seed, seed, tuple(blobs), items)


def _filled(pattern: str, size: int) -> bytes:
    return (pattern.encode() * (size // len(pattern) + 1))[:size]


KEYS = tuple(contents_of("keys").items)
SUBJECTS = ("image-0", "image-1", "index")
"""Whom lists of referrers are asked about; ``image-1`` has none."""


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository; ``visibility`` is ``None`` while there is none. ``about`` are those manifests that have a
    subject, by subject and then oldest first."""

    visibility: str | None = None
    blobs: frozenset[int] = frozenset()
    manifests: frozenset[str] = frozenset()
    about: tuple[str, ...] = ()
    tags: frozenset[tuple[str, str]] = frozenset()

    def tagged(self, tag: str) -> str | None:
        """Where the tag stands."""
        return dict(self.tags).get(tag)

    def made(self) -> Repo:
        """It, once something was pushed to it."""
        return replace(self, visibility=self.visibility or "private")


@dataclass(frozen=True, slots=True)
class Session:
    """An upload session: where it was opened, and how many bytes it has."""

    repo: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """All that can be seen of both repositories and of the slots that hold upload sessions."""

    repos: tuple[Repo, Repo] = (Repo(), Repo())
    sessions: tuple[Session | None, Session | None] = (None, None)

    def with_repo(self, number: int, repo: Repo) -> State:
        """The state with this repository changed."""
        repos = (repo, self.repos[1]) if number == 0 else (self.repos[0], repo)
        return replace(self, repos=repos)

    def with_session(self, slot: int, session: Session | None) -> State:
        """The state with this slot changed."""
        sessions = (session, self.sessions[1]) if slot == 0 else (self.sessions[0], session)
        return replace(self, sessions=sessions)


@dataclass(frozen=True, slots=True, repr=False)
class Op:
    """One thing that somebody does; ``kind`` says which of the other fields count."""

    kind: str
    repo: int = 0
    actor: Actor = "admin"
    blob: int = 0
    key: str = ""
    tag: str = ""
    tags: tuple[str, ...] = ()
    how: str = ""
    source: int | None = None
    slot: int = 0
    part: int = 0
    visibility: str = ""

    def __repr__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "kind"}
        shown = "".join(
            f", {name}={value!r}" for name, value in given.items() if value not in (0, "", (), None)
        )
        return f"Op({self.kind!r}{shown})".replace(", actor='admin'", "")


READS = ("get-blob", "get-tag", "get-manifest", "tags", "referrers", "catalog")
SESSION_KINDS = ("append", "status", "finish", "cancel")
HOWS = ("put", "chunked", "streamed", "single", "wrong")


def operations() -> Mapping[str, tuple[Op, ...]]:
    """Every operation of the administrator, by kind."""
    found: dict[str, list[Op]] = {}
    for op in _operations():
        found.setdefault(op.kind, []).append(op)
    return {kind: tuple(ops) for kind, ops in found.items()}


def _operations() -> Iterator[Op]:
    yield Op("catalog")
    yield Op("collect")
    for slot in SLOTS:
        yield from (Op(kind, slot=slot) for kind in ("status", "finish", "cancel"))
        yield from (Op("append", slot=slot, part=part) for part in range(len(PARTS)))
        yield from (Op("start", repo, slot=slot) for repo in range(2))
    for repo in range(2):
        yield Op("tags", repo)
        yield from (Op("visibility", repo, visibility=one) for one in ("private", "internal", "public"))
        for blob in BLOBS:
            yield from (Op(kind, repo, blob=blob) for kind in ("get-blob", "delete-blob"))
            yield from (Op("push-blob", repo, blob=blob, how=how) for how in HOWS)
            yield from (Op("mount", repo, blob=blob, source=source) for source in (0, 1))
            if blob != EMPTY:  # every play has that one
                yield Op("mount", repo, blob=blob)
        for tag in TAGS:
            yield from (Op(kind, repo, tag=tag) for kind in ("get-tag", "delete-tag"))
        yield from (Op("referrers", repo, key=key) for key in SUBJECTS)
        for key in KEYS:
            yield from (Op(kind, repo, key=key) for kind in ("get-manifest", "delete-manifest"))
            yield from (Op("put-manifest", repo, key=key, tags=tags) for tags in ((), TAGS[:2], TAGS[2:]))
            if key != "image-512":
                yield from (Op("put-tag", repo, key=key, tag=tag) for tag in TAGS)


def apply(state: State, op: Op, contents: Contents) -> tuple[State, Answer]:
    """What becomes of the state, and what the one who asked is told."""
    if op.kind == "catalog":
        return state, _catalog(state, op, contents)
    if op.kind == "collect":
        return _collect(state, op, contents)
    if op.kind in SESSION_KINDS:
        return _session(state, op)
    repo = state.repos[op.repo]
    if not _may(op, repo):
        return state, (401,) if op.actor == "nobody" else (403,)
    if op.kind in READS:
        return state, _read(repo, op, contents)
    if op.kind == "visibility":
        if repo.visibility is None:
            return state, (404,)
        return state.with_repo(op.repo, replace(repo, visibility=op.visibility)), (200,)
    if op.kind == "start":
        return state.with_repo(op.repo, repo.made()).with_session(op.slot, Session(op.repo)), (202,)
    after, answer = _change(state, repo, op, contents)
    return state.with_repo(op.repo, after), answer


def _may(op: Op, repo: Repo) -> bool:
    if op.actor == "admin":
        return True
    if op.kind not in READS:
        return False
    return repo.visibility == "public" or (repo.visibility == "internal" and op.actor == "reader")


def _catalog(state: State, op: Op, contents: Contents) -> Answer:
    if op.actor == "nobody":
        return (401,)
    shown = ("internal", "public") if op.actor == "reader" else ("private", "internal", "public")
    return (200, tuple(contents.name(i) for i, repo in enumerate(state.repos) if repo.visibility in shown))


def _collect(state: State, op: Op, contents: Contents) -> tuple[State, Answer]:
    if op.actor != "admin":
        return state, (401,) if op.actor == "nobody" else (403,)
    for number, repo in enumerate(state.repos):
        state = state.with_repo(number, replace(repo, blobs=repo.blobs - _unnamed(repo, contents)))
    return state, (202,)


def _unnamed(repo: Repo, contents: Contents) -> frozenset[int]:
    """The blobs that no manifest of the repository names."""
    return repo.blobs.difference(*(contents.items[key].blobs for key in repo.manifests))


def _losses(state: State, contents: Contents) -> Iterator[State]:
    """What a collection may have done so far, beside others: each time one blob more."""
    for number, repo in enumerate(state.repos):
        for blob in _unnamed(repo, contents):
            yield state.with_repo(number, replace(repo, blobs=repo.blobs - {blob}))


def _read(repo: Repo, op: Op, contents: Contents) -> Answer:
    match op.kind:
        case "get-blob":
            return (200, op.blob) if op.blob in repo.blobs else (404,)
        case "get-tag":
            key = repo.tagged(op.tag)
            return (200, key) if key else (404,)
        case "get-manifest":
            return (200, op.key) if op.key in repo.manifests else (404,)
        case "tags":
            return (404,) if repo.visibility is None else (200, tuple(sorted(tag for tag, _ in repo.tags)))
    items = contents.items
    return (200, tuple((key, items[key].artifact_type) for key in repo.about if items[key].subject == op.key))


def _change(state: State, repo: Repo, op: Op, contents: Contents) -> tuple[Repo, Answer]:
    match op.kind:
        case "push-blob":
            if op.how == "wrong":
                return repo.made(), (400,)
            return replace(repo.made(), blobs=repo.blobs | {op.blob}), (201,)
        case "mount":
            sources = state.repos if op.source is None else (state.repos[op.source],)
            if any(op.blob in source.blobs for source in sources):
                return replace(repo.made(), blobs=repo.blobs | {op.blob}), (201,)
            return repo.made(), (202,)  # an upload begins, which the player cancels
        case "put-manifest" | "put-tag":
            return _put(repo, op, contents)
        case "delete-blob" if op.blob in repo.blobs:
            return replace(repo, blobs=repo.blobs - {op.blob}), (202,)
        case "delete-tag" if repo.tagged(op.tag):
            return replace(repo, tags=_without(repo.tags, op.tag)), (202,)
        case "delete-manifest" if op.key in repo.manifests:
            tags = frozenset(pair for pair in repo.tags if pair[1] != op.key)
            about = tuple(key for key in repo.about if key != op.key)
            return replace(repo, manifests=repo.manifests - {op.key}, about=about, tags=tags), (202,)
    return repo, (404,)


def _put(repo: Repo, op: Op, contents: Contents) -> tuple[Repo, Answer]:
    item = contents.items[op.key]
    if not repo.blobs.issuperset(item.blobs):  # an index may come before what it lists
        return repo, (400,)
    tags = repo.tags
    for tag in (op.tag,) if op.kind == "put-tag" else op.tags:
        tags = _without(tags, tag) | {(tag, op.key)}
    about = repo.about
    if item.subject and op.key not in about:
        about = tuple(sorted((*about, op.key), key=lambda key: contents.items[key].subject or ""))
    after = replace(repo.made(), manifests=repo.manifests | {op.key}, about=about, tags=tags)
    return after, (201, item.subject, op.tags)


def _session(state: State, op: Op) -> tuple[State, Answer]:
    session = state.sessions[op.slot]
    if op.actor != "admin":
        return state, (401,) if op.actor == "nobody" else (403,)
    if session is None:
        return state, (404,)
    match op.kind:
        case "status":
            return state, (204, session.offset)
        case "append":
            first, end = PARTS[op.part]
            if session.offset != first:
                return state, (416, session.offset)
            return state.with_session(op.slot, replace(session, offset=end)), (202, end)
        case "cancel":
            return state.with_session(op.slot, None), (204,)
    ended = state.with_session(op.slot, None)
    if session.offset != _SIZES[UPLOADED]:
        return ended, (400,)
    repo = state.repos[session.repo]
    return ended.with_repo(session.repo, replace(repo, blobs=repo.blobs | {UPLOADED})), (201,)


def _without(tags: frozenset[tuple[str, str]], tag: str) -> frozenset[tuple[str, str]]:
    return frozenset(pair for pair in tags if pair[0] != tag)


def explain(state: State, told: Sequence[tuple[Op, Answer]], after: State, contents: Contents) -> bool:
    """Whether some order of these operations, done at once, gives each the answer that it was told and leads
    to the state ``after``.

    A collection among them takes a blob at any moment, or leaves it, as others ask for it meanwhile.
    """
    collected = len(told) > 1 and any(op.kind == "collect" and answer == (202,) for op, answer in told)
    seen: set[tuple[State, frozenset[int]]] = set()

    def search(at: State, left: frozenset[int]) -> bool:
        if not left and at == after:
            return True
        if (at, left) in seen:
            return False
        seen.add((at, left))
        if collected and any(search(then, left) for then in _losses(at, contents)):
            return True
        for i in left:
            op, answer = told[i]
            outcomes = [apply(at, op, contents)]
            if len(told) > 1:
                outcomes += _fair(at, op)
            if any(expected == answer and search(then, left - {i}) for then, expected in outcomes):
                return True
        return False

    return search(state, frozenset(range(len(told))))


def _fair(state: State, op: Op) -> list[tuple[State, Answer]]:
    """What else may be answered to those who come at once."""
    if op.actor != "admin":
        return []
    if op.kind == "mount" and op.source is None:
        return [(state, (202,))]  # nobody need look into every repository
    if op.kind == "collect":
        return [(state, (202,))]
    if op.kind == "finish":
        # Another request is using the session; or its bytes were not all there yet.
        return [(state, (409,)), (state.with_session(op.slot, None), (400,))]
    return [(state, (409,))] if op.kind in SESSION_KINDS else []
