"""Reads one layer once and hands its entries to the modules: the inside of the confined child.

Nothing is opened: all there is are the layer's own bytes as a stream. What cannot be told in one reading (a
hard link whose name says more than its file's, a file whose partner came before it) is read a second time.
"""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import BinaryIO

from sandbox.images.layerstream import LayerReader, members
from sandbox.images.tarpolicy import Entry as Member
from sandbox.images.tarpolicy import LayerError, read_entry
from sandbox.scanners.facts import Alias, Entry, EntryKind, Facts, IncompleteError, Module, PairedModule
from sandbox.scanners.lines import LineWriter, each_digest, path_digest
from sandbox.scanners.spool import Data, Spool

LINKS_MAX = 200_000
AGAIN_MAX = 10_000
KEPT_MAX_BYTES = 1024 * 1024 * 1024
REPORTED_MAX = 200_000
INCOMPLETE_MAX = 1_000
_CAPABILITY = (b"SCHILY.xattr.security.capability", b"LIBARCHIVE.xattr.security.capability")


@dataclass(frozen=True, slots=True)
class WalkLimits:
    """``entries`` of a layer at most; ``file_bytes``: a larger file is not handed to any module; seconds of
    processor time that a module may take for one file, and for all of a layer; ``result_bytes``: what may be
    told of a layer."""

    entries: int = 1_000_000
    file_bytes: int = 512 * 1024 * 1024
    look_seconds: float = 20.0
    module_seconds: float = 120.0
    result_bytes: int = 64 * 1024 * 1024


class _LateError(BaseException):
    """A module takes too long. No Exception: modules catch those."""


@dataclass(slots=True)
class _Pair:
    module: PairedModule
    path: str
    entry: Entry
    content: BinaryIO
    partner: BinaryIO | None = None


class Walk:
    """One layer. ``read`` begins to read it from its start, each time it is called. With ``aliases`` only
    what lies at one of them is looked at."""

    def __init__(
        self,
        modules: Sequence[Module],
        read: Callable[[], LayerReader],
        spool: Spool,
        out: BinaryIO,
        limits: WalkLimits,
        *,
        aliases: Sequence[Alias] = (),
    ) -> None:
        self._modules = modules
        self._read = read
        self._spool = spool
        self._limits = limits
        self._aliases = aliases
        self._lines = LineWriter(out, limits.result_bytes)
        self._folders, self._others = bytearray(), bytearray()
        self._paired = [one for one in modules if isinstance(one, PairedModule)]
        self._left = {module.name: limits.module_seconds for module in modules}
        self._told: set[str] = set()
        self._again: list[tuple[str, Entry, tuple[Module, ...]]] = []
        self._pairs: dict[str, list[_Pair]] = {}
        self._by_partner: dict[str, _Pair] = {}
        self._links = self._incomplete = 0
        self._lasting = True

    def run(self) -> None:
        """Write all that the modules tell, and how the reading ended."""
        signal.signal(signal.SIGPROF, _raise_late)
        diff_id = ""
        try:
            diff_id = self._first()
            self._second()
            for pairs in self._pairs.values():
                for pair in pairs:
                    self._look_at_both(pair)
        except LayerError as error:
            self._say("", f"the layer cannot be read: {error.message}")
            self._lasting = False
        except OSError as error:
            self._say("", f"the worker cannot store what it reads: {error.strerror}")
            self._lasting = False
        except MemoryError:
            self._say("", "reading the layer needs more memory than a scan may use")
            self._lasting = False
        if self._lines.dropped:
            self._incomplete += 1
            reason = f"{self._lines.dropped} lines of facts did not fit"
            self._lines.last(incomplete=reason, module="", path="")
        self._lines.end(
            self._folders,
            self._others,
            diff_id=diff_id,
            lasting=self._lasting,
            dropped=self._lines.dropped,
            incomplete=self._incomplete,
        )

    def _first(self) -> str:
        reader = self._read()
        for count, (info, data_end) in enumerate(members(reader)):
            if count >= self._limits.entries:
                raise LayerError("too-many-files", f"has more than {count} entries")
            member = read_entry(info)
            path = _text(b"/".join(member.parts))
            if member.kind == "whiteout":
                self._lines.line(gone=path)
            elif member.kind == "opaque":
                self._lines.line(opaque=path)
            elif member.kind != "metadata":
                capable = any(_text(name) in info.pax_headers for name in _CAPABILITY)
                self._member(_entry(member, path, capable=capable), Data(member, reader, data_end))
        return reader.finish()

    def _member(self, entry: Entry, data: Data) -> None:
        digest = path_digest(entry.path)
        if entry.kind == "folder":
            self._folders += digest
        else:
            self._others += digest
        if entry.path in self._told:
            # The same name twice in one layer: the last one is what the image has.
            self._told.discard(entry.path)
            self._pairs.pop(entry.path, None)
            self._lines.line(replaced=entry.path)
        if self._aliases:
            self._aliased(entry, data)
        elif data.member.kind == "hardlink":
            self._hardlink(data.member, entry)
        else:
            if entry.kind == "link":
                self._symlink(entry)
            self._seen(entry, self._wanting(entry), entry, data)

    def _aliased(self, entry: Entry, data: Data) -> None:
        """What a module would look for under another name than it has here."""
        shown, wanting = self._renamed(replace(entry, kind="file") if entry.kind == "link" else entry)
        if entry.kind != "link" and data.member.kind != "hardlink":
            self._seen(entry, wanting, shown, data)
            return
        if data.member.kind == "hardlink":
            # What is told of its file counts for it too, if that is looked at.
            known = self._renamed(replace(entry, path=_target(data.member)))[1]
            wanting = [module for module in wanting if module not in known]
        for module in wanting:
            self._say(module.name, "is a link in a folder behind a link, and is not followed", entry.path)

    def _renamed(self, entry: Entry) -> tuple[Entry, list[Module]]:
        """An entry under the name that modules look for it by, and the modules that do."""
        for alias in self._aliases:
            if (name := alias.renamed(entry.path)) is not None:
                shown = replace(entry, path=name)
                if wanting := self._wanting(shown):
                    return shown, wanting
        return entry, []

    def _seen(self, entry: Entry, wanting: Sequence[Module], shown: Entry, data: Data) -> None:
        """Hand an entry to the modules that want it, as they are shown it."""
        partner = self._by_partner.get(entry.path)
        if entry.kind != "file":
            self._look(wanting, entry.path, shown, io.BytesIO())
        elif (wanting or partner is not None) and self._fits(wanting, entry):
            self._file(wanting, partner, entry, shown, data)

    def _file(
        self, wanting: Sequence[Module], partner: _Pair | None, entry: Entry, shown: Entry, data: Data
    ) -> None:
        paired = [module for module in self._paired if module in wanting]
        if paired or partner is not None:
            if self._spool.kept_bytes + entry.size_bytes > KEPT_MAX_BYTES:
                for module in wanting:
                    self._say(module.name, "no room for files that belong together", entry.path)
                return
            content = self._spool.kept(data)
        else:
            content = self._spool.content(data)
        if partner is not None:
            partner.partner = content
        for module in paired:
            pair = _Pair(module, entry.path, shown, content)
            self._pairs.setdefault(entry.path, []).append(pair)
            self._by_partner[_beside(entry.path, module.partner(shown))] = pair
            self._told.add(entry.path)
        self._look([module for module in wanting if module not in paired], entry.path, shown, content)

    def _fits(self, wanted: Sequence[Module], entry: Entry) -> bool:
        if entry.size_bytes <= self._limits.file_bytes:
            return True
        for module in wanted:
            size, most = entry.size_bytes, self._limits.file_bytes
            self._say(module.name, f"has {size} bytes; at most {most} are looked at", entry.path)
        return False

    def _wanting(self, entry: Entry) -> list[Module]:
        found = []
        for module in self._modules:
            try:
                if module.wants(entry):
                    found.append(module)
            except Exception as error:  # as in _guarded
                self._say(module.name, f"{module.name} failed: {type(error).__name__}", entry.path)
        return found

    def _hardlink(self, member: Member, entry: Entry) -> None:
        """The content has gone by, or lies in a layer below; what is told of it counts for both names."""
        target = _target(member)
        if not self._link("hard", entry.path, target):
            return
        # How long it is does not matter for its name; what does is asked again where it has come.
        asked = replace(entry, kind="file", size_bytes=4096)
        known = self._wanting(replace(asked, path=target))
        more = tuple(module for module in self._wanting(asked) if module not in known)
        if more and len(self._again) < AGAIN_MAX:
            self._again.append((target, entry, more))
        elif more:
            self._say("", f"has more than {AGAIN_MAX} hard links to be looked at", entry.path)

    def _symlink(self, entry: Entry) -> None:
        wanting = self._wanting(replace(entry, kind="file", size_bytes=4096, mode=0o644))
        self._link("link", entry.path, entry.links, wanted=[module.name for module in wanting])

    def _link(self, kind: str, path: str, target: str, **more: object) -> bool:
        self._links += 1
        if self._links <= LINKS_MAX:
            self._lines.line(**{kind: path, "to": target}, **more)
            return True
        if self._links == LINKS_MAX + 1:
            self._say("", f"has more than {LINKS_MAX} links; further ones are not followed", path)
        return False

    def _second(self) -> None:
        """The second reading, if it is needed."""
        missing = {name for name, pair in self._by_partner.items() if pair.partner is None}
        targets = {target for target, _, _ in self._again}
        here = _those_in({path_digest(one) for one in missing | targets}, self._others)
        wanted: dict[str, list[tuple[Entry, tuple[Module, ...]]]] = {}
        for target, entry, more in self._again:
            if path_digest(target) in here:
                wanted.setdefault(target, []).append((entry, more))
            else:
                for module in more:
                    self._say(module.name, f"is a hard link to {_shown(target)} of a layer below", entry.path)
        partners = {one for one in missing if path_digest(one) in here}
        if not wanted and not partners:
            return
        reader = self._read()
        for info, data_end in members(reader):
            member = read_entry(info)
            path = _text(b"/".join(member.parts))
            if member.kind != "file":
                continue
            if path in partners and self._spool.kept_bytes + member.size <= KEPT_MAX_BYTES:
                self._by_partner[path].partner = self._spool.kept(Data(member, reader, data_end))
            elif path in wanted:
                self._under_other_names(wanted.pop(path), Data(member, reader, data_end))
        for entries in wanted.values():
            for entry, more in entries:
                for module in more:
                    self._say(module.name, "is a hard link to what is no file", entry.path)

    def _under_other_names(self, names: Sequence[tuple[Entry, tuple[Module, ...]]], data: Data) -> None:
        content: BinaryIO | None = None
        for entry, more in names:
            real = replace(entry, kind="file", size_bytes=data.member.size)
            some = [module for module in self._wanting(real) if module in more]
            if some and self._fits(some, real):
                content = content or self._spool.content(data)
                self._look(some, real.path, real, content)

    def _look(self, modules: Sequence[Module], path: str, shown: Entry, content: BinaryIO) -> None:
        for module in modules:

            def look(module: Module = module) -> Facts:
                content.seek(0)
                return module.look(shown, content)

            self._guarded(module, path, shown.path, look)

    def _look_at_both(self, pair: _Pair) -> None:
        def look() -> Facts:
            for one in (pair.content, pair.partner):
                if one is not None:
                    one.seek(0)
            return pair.module.look_at_both(pair.entry, pair.content, pair.partner)

        self._guarded(pair.module, pair.path, pair.entry.path, look)

    def _guarded(self, module: Module, path: str, name: str, look: Callable[[], Facts]) -> None:
        """Have a module look at the entry at ``path``, which it is shown as ``name``; whatever becomes of it,
        the walk goes on."""
        left = self._left[module.name]
        if left <= 0:
            return
        started = time.thread_time()
        allowed = min(left, self._limits.look_seconds)
        try:
            facts = _in_time(look, allowed)
            if len(self._told) >= REPORTED_MAX:
                raise IncompleteError(f"more than {REPORTED_MAX} files have something to tell")
            if self._lines.facts(path, module.name, facts, name=name):
                self._told.add(path)
                self._incomplete += len(facts.incomplete)
        except IncompleteError as error:
            self._say(module.name, error.reason, path)
        except _LateError:
            self._lasting = False
            self._say(module.name, f"took longer than {allowed:.0f} s", path)
        except MemoryError:
            self._say(module.name, "needs more memory than a scan may use", path)
        except Exception as error:  # a module is fed hostile files; the others must go on
            self._say(module.name, f"{module.name} failed: {type(error).__name__}", path)
        self._left[module.name] = left - (time.thread_time() - started)
        if self._left[module.name] <= 0:
            self._lasting = False
            self._say(module.name, f"the {self._limits.module_seconds:.0f} s for a layer are used up")

    def _say(self, module: str, reason: str, path: str = "") -> None:
        self._incomplete += 1
        if self._incomplete <= INCOMPLETE_MAX:
            self._lines.line(incomplete=reason[:300], module=module, path=path)
            if path:
                self._told.add(path)


def _in_time(look: Callable[[], Facts], seconds: float) -> Facts:
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        return look()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _raise_late(_number: int, _frame: FrameType | None) -> None:
    raise _LateError


def _entry(member: Member, path: str, *, capable: bool) -> Entry:
    kinds: dict[str, EntryKind] = {"file": "file", "hardlink": "file", "folder": "folder", "symlink": "link"}
    return Entry(
        path=path,
        kind=kinds.get(member.kind, "other"),
        size_bytes=member.size,
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        links=_text(member.target) if member.kind == "symlink" else "",
        capabilities=capable,
    )


def _target(member: Member) -> str:
    """The path that a hard link names."""
    return _text(b"/".join(part for part in member.target.split(b"/") if part not in (b"", b".")))


def _beside(path: str, name: str) -> str:
    return f"{path.rpartition('/')[0]}/{name}".lstrip("/")


def _those_in(wanted: set[bytes], digests: bytes | bytearray) -> set[bytes]:
    return wanted.intersection(each_digest(digests)) if wanted else set()


def _shown(path: str) -> str:
    return path.encode("utf-8", "replace").decode()[:200]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
