"""What a layer's scan is written as: lines of JSON, then the digests of its paths.

The child that reads the layer writes it, the worker reads it; both are of one version, which is part of the
name that a result is kept under. Every line is an object with one of these: ``file`` (what one module tells
of a file), ``owned`` (files of a distribution's packages), ``gone``, ``opaque``, ``link`` and ``hard`` (what
the layer does to those below), ``replaced``, ``incomplete``; the last is ``end``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import BinaryIO

from sandbox.scanners.facts import Facts, FoundPackage, FoundSystem, FoundThing

FORMAT = 3
DIGEST_BYTES = 16
OWNED_PER_LINE = 2_000
LINE_MAX_BYTES = 64 * 1024 * 1024
_OWNED = b'{"owned":'
_SLICE = 200_000
_PACKAGE = tuple(one.name for one in fields(FoundPackage))
_THING = tuple(one.name for one in fields(FoundThing))
_SYSTEM = tuple(one.name for one in fields(FoundSystem))


def path_digest(path: str) -> bytes:
    """What stands for a path where only its being there matters. Who makes images chooses paths, so it is one
    that no two can be found for."""
    return hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=DIGEST_BYTES).digest()


class LineWriter:
    """Writes lines, at most ``max_bytes`` of them; what does not fit is counted."""

    def __init__(self, out: BinaryIO, max_bytes: int) -> None:
        self._out = out
        self._left = max_bytes
        self.dropped = 0

    def line(self, **record: object) -> None:
        """One line, if there is room for it."""
        raw = _dumped(record)
        if len(raw) > self._left:
            self.dropped += 1
            return
        self._left -= len(raw)
        self._out.write(raw)

    def last(self, **record: object) -> None:
        """A line that has room whatever came before it: what must be said in the end."""
        self._out.write(_dumped(record))

    def facts(self, path: str, module: str, facts: Facts, *, name: str) -> bool:
        """What ``module`` tells of the file at ``path``, which it was shown as ``name``; false where that is
        nothing."""
        record: dict[str, object] = {} if name == path else {"as": name}
        if facts.packages:
            record["packages"] = [_values(one, _PACKAGE) for one in facts.packages]
        if facts.system is not None:
            record["system"] = _values(facts.system, _SYSTEM)
        if facts.things:
            record["things"] = [_values(one, _THING) for one in facts.things]
        if facts.incomplete:
            record["incomplete"] = [str(reason)[:300] for reason in facts.incomplete[:100]]
        for start in range(0, len(facts.owned), OWNED_PER_LINE):
            some = [
                (one.path, one.package, one.digest) for one in facts.owned[start : start + OWNED_PER_LINE]
            ]
            self.line(owned=path, files=some)
        if record.keys() <= {"as"} and not facts.owned:
            return False
        self.line(file=path, module=module, **record)
        return True

    def end(self, folders: bytearray, others: bytearray, **record: object) -> None:
        """The last line, which always has room, and the digests of all paths."""
        sizes = {"folders": len(folders) // DIGEST_BYTES, "others": len(others) // DIGEST_BYTES}
        self._out.write(json.dumps({"end": {**record, **sizes}}).encode() + b"\n")
        self._out.write(folders)
        self._out.write(others)
        self._out.flush()


def _dumped(record: Mapping[str, object]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _values(value: object, names: tuple[str, ...]) -> dict[str, object]:
    """The fields that say something: most of a package's and a finding's are empty."""
    found = {name: getattr(value, name) for name in names}
    return {name: one for name, one in found.items() if one not in ("", None, ())}


@dataclass(frozen=True, slots=True)
class End:
    """How the reading of a layer ended. ``diff_id`` is that of all that was read, empty where it was not read
    to its end; ``lasting`` is false where another try could tell more."""

    diff_id: str
    lasting: bool
    at: int
    """where the digests begin in the file"""
    folders: int
    others: int


class LineFile:
    """The result of one layer as it was written. It has read hostile bytes: what it says is looked at, and
    what makes no sense is passed over."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def records(self) -> Iterator[Mapping[str, object]]:
        """All lines but those of owned files, and the end."""
        for line in self._lines():
            if not line.startswith(_OWNED) and (record := _parsed(line)) is not None and "end" not in record:
                yield record

    def owned(self) -> Iterator[tuple[str, str, str, str]]:
        """Where it is said, and of each owned file path, package and digest."""
        for line in self._lines():
            if not line.startswith(_OWNED) or (record := _parsed(line)) is None:
                continue
            source, files = record.get("owned"), record.get("files")
            if isinstance(source, str) and isinstance(files, list):
                for one in files:
                    match one:
                        case [str(path), str(package), str(digest)]:
                            yield source, path, package, digest

    def end(self) -> End | None:
        """How it ended; None: it did not, or has fewer digests than it says."""
        size = self._file.seek(0, 2)
        for line in self._lines():
            if line.startswith(b'{"end":') and (record := _parsed(line)) is not None:
                match record["end"]:
                    case {
                        "diff_id": str(diff_id),
                        "lasting": bool(lasting),
                        "folders": int(folders),
                        "others": int(others),
                    } if (
                        min(folders, others) >= 0
                        and self._file.tell() + (folders + others) * DIGEST_BYTES <= size
                    ):
                        return End(diff_id, lasting, self._file.tell(), folders, others)
        return None

    def digests(self) -> tuple[bytes, bytes]:
        """Those of folders, and those of everything else."""
        end = self.end()
        if end is None:
            return b"", b""
        self._file.seek(end.at)
        folders = self._file.read(end.folders * DIGEST_BYTES)
        return folders, self._file.read(end.others * DIGEST_BYTES)

    def _lines(self) -> Iterator[bytes]:
        self._file.seek(0)
        while (line := self._file.readline(LINE_MAX_BYTES)).endswith(b"\n"):
            yield line
            if line.startswith(b'{"end":'):
                return


@dataclass(frozen=True, slots=True)
class Both:
    """What a layer says, and what it says of files that were looked at afterwards, under other names."""

    first: LineFile
    second: LineFile

    def records(self) -> Iterator[Mapping[str, object]]:
        """All lines of the first, and what the second tells of files: the links are those of the first."""
        yield from self.first.records()
        told: dict[str, list[Mapping[str, object]]] = {}
        for record in self.second.records():
            match record:
                case {"file": str(path)} | {"incomplete": str(), "path": str(path)}:
                    told.setdefault(path, []).append(record)
                case {"replaced": str(path)}:
                    # Of what was looked at under its own name the first has said that.
                    told.pop(path, None)
        for records in told.values():
            yield from records

    def owned(self) -> Iterator[tuple[str, str, str, str]]:
        """As :meth:`LineFile.owned`, of both."""
        yield from self.first.owned()
        yield from self.second.owned()

    def digests(self) -> tuple[bytes, bytes]:
        """Of the first: both have read the same layer."""
        return self.first.digests()


def each_digest(digests: bytes | bytearray) -> Iterator[bytes]:
    """The digests that stand one behind the other."""
    for start in range(0, len(digests), DIGEST_BYTES * _SLICE):
        some = bytes(digests[start : start + DIGEST_BYTES * _SLICE])
        for at in range(0, len(some), DIGEST_BYTES):
            yield some[at : at + DIGEST_BYTES]


def _parsed(line: bytes) -> Mapping[str, object] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
