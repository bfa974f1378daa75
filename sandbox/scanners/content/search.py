"""Searches files for secrets and malware, in windows, so that memory does not grow with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from sandbox.scanners.content.archives import Budget, Readable, members
from sandbox.scanners.content.digests import digests_of
from sandbox.scanners.content.engine import MAX_MATCHES, NO_ENGINE, Engine, Match, Matches, Rule
from sandbox.scanners.content.places import is_in_library, is_looked_at
from sandbox.scanners.content.redaction import redacted, shown
from sandbox.scanners.facts import Entry, Facts, FoundThing, IncompleteError, Severity

REVISION = 1
"""Of this code; together with the rules it makes the version, which says nothing of what is newer."""
WINDOW_BYTES = 8 * 1024 * 1024
OVERLAP_BYTES = 64 * 1024
"""Longer than any match of ours: what begins in it is told by the next window, which sees it whole."""
_BEFORE_BYTES = 64
MAX_ARCHIVE_BYTES = 256 * 1024 * 1024
MAX_ARCHIVES_BYTES = 2 * 1024 * 1024 * 1024
"""Of one layer."""
MAX_PER_FILE = 50
MAX_PER_LAYER = 2000
MAX_UNFINISHED = 3
"""Searches of one layer that may end by their timeout, before it is no longer searched."""
_ORDER: tuple[Severity, ...] = ("critical", "high", "medium", "low", "info", "unknown")
REMEDIES = {
    "secret": "Revoke it: whoever could pull the image has it. Give it to a build as a mounted secret,"
    " and to a container when it starts.",
    "malware": "Do not run the image. Find out how the file came into it, and build it from what you trust.",
}


@dataclass(frozen=True, slots=True)
class _Hit:
    """One match that passed its check; ``start`` counts from the beginning of what is searched."""

    rule: Rule
    severity: Severity
    title: str
    value: bytes
    start: int
    end: int
    line: int | None


class ContentSearch:
    """A :class:`~sandbox.scanners.facts.Module` for one layer: it counts what it has told of it."""

    name = "content"

    def __init__(self, engine: Engine, digest: str) -> None:
        """``digest`` is that of the engine's rules."""
        self._engine = engine
        self.version = int(hashlib.sha256(f"{REVISION} {digest}".encode()).hexdigest()[:7], 16)
        self._budget = Budget(MAX_ARCHIVES_BYTES, MAX_ARCHIVE_BYTES)
        self._left = MAX_PER_LAYER
        self._unfinished_left = MAX_UNFINISHED

    def wants(self, entry: Entry) -> bool:
        return entry.kind == "file" and entry.size_bytes > 0 and self._left > 0 and self._unfinished_left > 0

    def look(self, entry: Entry, content: BinaryIO) -> Facts:
        """What is in the file, and in what it holds if it is an archive."""
        if not self._engine.is_there:
            # Said once.
            self._unfinished_left = 0
            raise IncompleteError(NO_ENGINE)
        incomplete: list[str] = []
        things = list(self._things(content, entry.path, "", incomplete))
        if len(things) < MAX_PER_FILE:
            try:
                for inside, member in members(content, entry.path.rpartition("/")[2], self._budget):
                    things += self._things(member, f"{entry.path}/{inside}", inside, incomplete)
                    if len(things) >= MAX_PER_FILE:
                        break
            except IncompleteError as error:
                incomplete.append(error.reason)
        if len(things) >= MAX_PER_FILE:
            incomplete.append(
                f"there was more in it than the {MAX_PER_FILE} things that are told of one file"
            )
            things = things[:MAX_PER_FILE]
        if len(things) >= self._left:
            incomplete.append(
                f"more than {MAX_PER_LAYER} things in one layer: what comes after was not searched"
            )
            things = things[: self._left]
        self._left -= len(things)
        if not self._unfinished_left:
            incomplete.append("the rules are too slow for this layer: what comes after was not searched")
        if things:
            digests = digests_of(content)
            things = [replace(thing, digests=digests) for thing in things]
        return Facts(things=tuple(things), incomplete=tuple(dict.fromkeys(incomplete)))

    @property
    def is_there(self) -> bool:
        """Whether it can search at all."""
        return self._engine.is_there

    def search_text(self, text: bytes, place: str) -> tuple[tuple[FoundThing, bytes], ...]:
        """What is in a short text that is no file, each with what was found, in full; for any thread.

        Raises:
            IncompleteError: it could not be searched to its end.
        """
        matches = self._engine.search_once(text)
        if reasons := [*_flooded(matches, place), *([matches.unfinished] if matches.unfinished else [])]:
            raise IncompleteError(reasons[0])
        return tuple((_thing(hit, ""), hit.value) for hit in _chosen(_hits(matches.found, text, 0, place)))

    def _things(
        self, content: Readable, path: str, inside: str, incomplete: list[str]
    ) -> Iterator[FoundThing]:
        known: set[tuple[str, bytes]] = set()
        for window, start, accepted in _windows(content):
            matches = self._engine.search(window)
            mine = (one for one in matches.found if accepted[0] <= start + one.start < accepted[1])
            for hit in _chosen(_hits(mine, window, start, path)):
                if (hit.rule.id, hit.value) not in known:
                    known.add((hit.rule.id, hit.value))
                    yield _thing(hit, inside)
            incomplete += _flooded(matches, path)
            if matches.unfinished:
                incomplete.append(matches.unfinished)
                self._unfinished_left -= 1
                return
            if len(known) >= MAX_PER_FILE:
                return


def _windows(content: Readable) -> Iterator[tuple[bytes, int, tuple[int, int]]]:
    """Each window, where it begins, and between which places a match must begin that is told of it."""
    end, kept, accepted = 0, b"", 0
    block = _read(content)
    while block:
        following = _read(content) if len(block) == WINDOW_BYTES else b""
        window, start = kept + block, end - len(kept)
        end += len(block)
        until = end - OVERLAP_BYTES if following else end
        if window[0] or window[-1] or window.count(0) != len(window):
            yield window, start, (accepted, until)
        accepted, kept, block = until, window[-(OVERLAP_BYTES + _BEFORE_BYTES) :], following


def _flooded(matches: Matches, path: str) -> list[str]:
    return [
        f"{rule.id} matches {MAX_MATCHES} times and more: not all of it was looked at"
        for rule in matches.flooded
        if is_looked_at(path, rule.only)
    ]


def _read(content: Readable) -> bytes:
    """A whole window, or what is left."""
    parts: list[bytes] = []
    size = 0
    # Most files are small, and room for a whole window is made for each read of one.
    while size < WINDOW_BYTES and (more := content.read(min(64 * 1024 << len(parts), WINDOW_BYTES - size))):
        parts.append(more)
        size += len(more)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _hits(
    matches: Iterator[Match] | tuple[Match, ...], window: bytes, start: int, path: str
) -> Iterator[_Hit]:
    for match in matches:
        rule, raw = match.rule, window[match.start : match.end]
        if not is_looked_at(path, rule.only):
            continue
        value, severity, note = raw, rule.severity, ""
        if rule.check:
            secret = rule.check(raw)
            if secret is None:
                continue
            value, severity, note = secret.value, secret.severity or rule.severity, secret.note
        if rule.is_often_an_example and is_in_library(path):
            severity, note = "info", "in a folder of libraries or documentation"
        line = None
        if not start and 0 not in window[max(0, match.start - 512) : match.end + 512]:
            line = window.count(b"\n", 0, match.start) + 1
        title = rule.title[0].upper() + rule.title[1:] + (f" ({note})" if note else "")
        yield _Hit(rule, severity, title, value, start + match.start, start + match.end, line)


def _chosen(hits: Iterator[_Hit]) -> Iterator[_Hit]:
    """Of secrets that overlap, the one that says most; of malware each rule once. What overlaps a secret
    shows nothing of it."""
    ordered = sorted(hits, key=lambda hit: (_ORDER.index(hit.severity), hit.start, hit.rule.id))
    secrets: list[_Hit] = []
    for hit in ordered:
        if hit.rule.kind == "secret" and not any(
            one.start < hit.end and hit.start < one.end for one in secrets
        ):
            secrets.append(hit)
            yield hit
    told = set()
    for hit in ordered:
        if hit.rule.kind == "malware" and hit.rule.id not in told:
            told.add(hit.rule.id)
            hides = any(
                one.value in hit.value or (one.start < hit.end and hit.start < one.end) for one in secrets
            )
            yield _Hit(
                hit.rule, hit.severity, hit.title, b"" if hides else hit.value, hit.start, hit.end, hit.line
            )


def _thing(hit: _Hit, inside: str) -> FoundThing:
    return FoundThing(
        kind=hit.rule.kind,
        rule=hit.rule.id,
        severity=hit.severity,
        title=hit.title,
        remedy=REMEDIES[hit.rule.kind],
        line=hit.line,
        evidence=redacted(hit.value) if hit.rule.kind == "secret" else shown(hit.value),
        path=inside,
    )
