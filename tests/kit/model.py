"""What a registry should do, in one page: two repositories, three actors, and a pure function from a state
and an operation to the next state and the answer. Tests play the same operations over HTTP and compare.

Operations are those of clients, and those by which content comes to its end and back: days that pass,
retention and its undoing, deleted tags that are restored, collections, and damaged blobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from tests.kit.modelcontents import (
    BLOBS,
    EMPTY,
    KEYS,
    PARTS,
    SIZES,
    SLOTS,
    SUBJECTS,
    TAGS,
    UPLOADED,
    Contents,
)
from tests.kit.modelstate import DAMAGEABLE, AllShown, Repo, Session, State, Went

Actor = Literal["admin", "reader", "nobody"]
Answer = tuple[object, ...]
"""The status, and what the body or the headers said."""


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
    days: int = 0
    most: int | None = None

    def __repr__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "kind"}
        shown = "".join(
            f", {name}={value!r}" for name, value in given.items() if value not in (0, "", (), None)
        )
        return f"Op({self.kind!r}{shown})".replace(", actor='admin'", "")


READS = ("get-blob", "get-tag", "get-manifest", "tags", "referrers", "catalog")
KEEPING = ("older", "retain", "undo", "restore", "damage", "quota")
"""What only the administrator does, or the time that passes."""
EVERYWHERE = ("catalog", "collect", "older", "damage")
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
    yield from (Op("older", days=days) for days in (1, 1, 2, 3))
    yield from (Op("damage", blob=blob) for blob in DAMAGEABLE)
    for slot in SLOTS:
        yield from (Op(kind, slot=slot) for kind in ("status", "finish", "cancel"))
        yield from (Op("append", slot=slot, part=part) for part in range(len(PARTS)))
        yield from (Op("start", repo, slot=slot) for repo in range(2))
    for repo in range(2):
        yield from (Op(kind, repo) for kind in ("tags", "retain", "undo"))
        yield from (Op("quota", repo, most=most) for most in (None, None, 1, 2))
        yield from (Op("visibility", repo, visibility=one) for one in ("private", "internal", "public"))
        for blob in BLOBS:
            yield from (Op(kind, repo, blob=blob) for kind in ("get-blob", "delete-blob"))
            yield from (Op("push-blob", repo, blob=blob, how=how) for how in HOWS)
            yield from (Op("mount", repo, blob=blob, source=source) for source in (0, 1))
            if blob != EMPTY:  # every play has that one
                yield Op("mount", repo, blob=blob)
        for tag in TAGS:
            yield from (Op(kind, repo, tag=tag) for kind in ("get-tag", "delete-tag", "restore"))
        yield from (Op("referrers", repo, key=key) for key in SUBJECTS)
        for key in KEYS:
            yield from (Op(kind, repo, key=key) for kind in ("get-manifest", "delete-manifest"))
            yield from (Op("put-manifest", repo, key=key, tags=tags) for tags in ((), TAGS[:2], TAGS[2:]))
            if key != "image-512":
                yield from (Op("put-tag", repo, key=key, tag=tag) for tag in TAGS)


def apply(state: State, op: Op, contents: Contents) -> tuple[State, Answer]:
    """What becomes of the state, and what the one who asked is told."""
    after, answer = _apply(state, op, contents)
    one, two = (repo.normal(contents) for repo in after.repos)
    return replace(after, repos=(one, two)), answer


def _apply(state: State, op: Op, contents: Contents) -> tuple[State, Answer]:
    if op.kind in EVERYWHERE:
        return _apply_everywhere(state, op, contents)
    if op.kind in SESSION_KINDS:
        return _session(state, op)
    repo = state.repos[op.repo]
    if not _may(op, repo):
        return state, (401,) if op.actor == "nobody" else (403,)
    if op.kind in READS:
        return _read(state, op, contents)
    if op.kind in KEEPING:
        after, answer = _keep(state, repo, op, contents)
        return state.with_repo(op.repo, after), answer
    if op.kind == "visibility":
        if repo.visibility is None:
            return state, (404,)
        return state.with_repo(op.repo, replace(repo, visibility=op.visibility)), (200,)
    if op.kind == "start":
        return state.with_repo(op.repo, repo.made()).with_session(op.slot, Session(op.repo)), (202,)
    after, answer = _change(state, repo, op, contents)
    if op.kind == "push-blob" and answer == (201,):
        state = _healed(state, op.blob)
    return state.with_repo(op.repo, after), answer


def _apply_everywhere(state: State, op: Op, contents: Contents) -> tuple[State, Answer]:
    match op.kind:
        case "catalog":
            return state, _catalog(state, op, contents)
        case "collect":
            return _collect(state, op, contents)
        case "older":
            one, two = (repo.older(op.days) for repo in state.repos)
            return replace(state, repos=(one, two)), (200,)
    if not any(op.blob in repo.blobs for repo in state.repos):
        return state, (404,)
    return replace(state, damaged=state.damaged | {op.blob}), (200,)


def _healed(state: State, blob: int) -> State:
    """Whoever pushes the same bytes heals them everywhere."""
    return replace(state, damaged=state.damaged - {blob})


def _keep(state: State, repo: Repo, op: Op, contents: Contents) -> tuple[Repo, Answer]:
    if repo.visibility is None:
        return repo, (404,)
    match op.kind:
        case "retain":
            after = repo.retained(contents)
            return after, (200, after.run)
        case "undo":
            if repo.run is None:
                return repo, (404,)
            *_, end = repo.undone(state.damaged, contents)
            if end.refused:
                return end.repo, (403,)
            return end.repo, (200, end.restored, len(repo.run) - end.restored)
        case "quota":
            return replace(repo, most_tags=op.most), (200,)
    key = dict(repo.was).get(op.tag)
    if repo.tagged(op.tag):
        return repo, (409,)
    if key is None:
        return repo, (404,)
    back = repo.brought_back(key, state.damaged, contents)
    if isinstance(back, int):
        return repo, (back,)
    after = back.moved(op.tag, key)
    return (after, (200,)) if repo.has_room_for(after) else (repo, (403,))


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
        state = state.with_repo(number, repo.collected(contents))
    return state, (202,)


def _read(state: State, op: Op, contents: Contents) -> tuple[State, Answer]:
    repo, items = state.repos[op.repo], contents.items
    match op.kind:
        case "get-blob":
            if op.blob not in state.visible(op.repo):
                return state, (404,)
            return state.with_repo(op.repo, repo.linked(op.blob)), (200, op.blob)
        case "get-tag":
            key = repo.tagged(op.tag)
            return state, (200, key) if key else (404,)
        case "get-manifest":
            return state, (200, op.key) if op.key in repo.manifests else (404,)
        case "tags":
            known = repo.visibility is not None
            return state, (200, tuple(sorted(tag for tag, _ in repo.tags))) if known else (404,)
    about = tuple((key, items[key].artifact_type) for key in repo.about if items[key].subject == op.key)
    return state, (200, about)


def _change(state: State, repo: Repo, op: Op, contents: Contents) -> tuple[Repo, Answer]:
    match op.kind:
        case "push-blob":
            if op.how == "wrong":
                return repo.made(), (400,)
            return repo.made().linked(op.blob), (201,)
        case "mount":
            sources = (0, 1) if op.source is None else (op.source,)
            if any(op.blob in state.visible(source) for source in sources):
                return repo.made().linked(op.blob), (201,)
            return repo.made(), (202,)  # an upload begins, which the player cancels
        case "put-manifest" | "put-tag":
            return _put(state, repo, op, contents)
        case "delete-blob" if op.blob in repo.blobs:
            return repo.unlinked(op.blob), (202,)
        case "delete-tag" if repo.tagged(op.tag):
            return repo.dropped(op.tag), (202,)
        case "delete-manifest" if op.key in repo.manifests:
            return repo.taken(op.key, contents), (202,)
    return repo, (404,)


def _put(state: State, repo: Repo, op: Op, contents: Contents) -> tuple[Repo, Answer]:
    if repo.misses(op.key, state.damaged, contents):
        return repo, (400,)
    after = repo.made().arrived(op.key, contents)
    for tag in (op.tag,) if op.kind == "put-tag" else op.tags:
        after = after.moved(tag, op.key)
    if not repo.has_room_for(after):
        return repo, (403,)
    return after, (201, contents.items[op.key].subject, op.tags)


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
    if session.offset != SIZES[UPLOADED]:
        return ended, (400,)
    repo = state.repos[session.repo]
    return _healed(ended, UPLOADED).with_repo(session.repo, repo.linked(UPLOADED)), (201,)


def explain(
    before: Iterable[State], told: Sequence[tuple[Op, Answer]], after: AllShown, contents: Contents
) -> frozenset[State]:
    """What may be there after these operations, done at once from one of these states, in whatever order
    gives each the answer that it was told and leads to what was seen then. None: no order explains it.

    A collection among them takes a blob at any moment, or leaves it, as others ask for it meanwhile; a
    retention run takes what it has told of one after the other, each while nothing keeps it.
    """
    runs = tuple({(op.repo, answer[1]) for op, answer in told if _has_run(op, answer)})
    told = [(op, answer) for op, answer in told if not _has_run(op, answer)]
    collected = any(op.kind == "collect" and answer == (202,) for op, answer in told)
    found: set[State] = set()
    seen: set[tuple[State, frozenset[int], tuple[int, ...]]] = set()

    def search(at: State, left: frozenset[int], taken: tuple[int, ...]) -> None:
        if (at, left, taken) in seen:
            return
        seen.add((at, left, taken))
        ended = all(count > len(items) for count, (_, items) in zip(taken, runs, strict=True))
        if not left and ended and at.shown == after:
            found.add(at.looked_at())
        for number, repo in enumerate(at.repos) if collected else ():
            search(at.with_repo(number, repo.collected(contents)), left, taken)
        for number, (place, items) in enumerate(runs):
            then = _after_step(at.repos[place], items, taken[number], contents)
            if then is not None:
                steps = (*taken[:number], taken[number] + 1, *taken[number + 1 :])
                search(at.with_repo(place, then.normal(contents)), left, steps)
        for i in left:
            op, answer = told[i]
            for then, expected in (apply(at, op, contents), *_fair(at, op)):
                if expected == answer:
                    search(then, left - {i}, taken)

    for state in before:
        search(state, frozenset(range(len(told))), (0,) * len(runs))
    return frozenset(found)


def _has_run(op: Op, answer: Answer) -> bool:
    return op.kind == "retain" and answer[0] == 200


def _after_step(repo: Repo, items: Sequence[Went], done: int, contents: Contents) -> Repo | None:
    """After the next thing that a run deletes, and at last after its end; ``None``: not now, or never."""
    if done < len(items):
        return repo.lost(items[done], contents)
    return replace(repo, run=tuple(items)) if done == len(items) else None


def _fair(state: State, op: Op) -> list[tuple[State, Answer]]:
    """What else may be answered to those who come at once."""
    if op.actor != "admin":
        return []
    if op.kind == "mount" and op.source is None:
        return [(state, (202,))]  # nobody need look into every repository
    if op.kind == "collect":
        return [(state, (202,))]
    if op.kind == "restore":
        return [(state, (409,))]  # the tag was moved meanwhile
    if op.kind == "finish":
        # Another request is using the session; or its bytes were not all there yet.
        return [(state, (409,)), (state.with_session(op.slot, None), (400,))]
    return [(state, (409,))] if op.kind in SESSION_KINDS else []
