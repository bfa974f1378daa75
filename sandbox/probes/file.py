"""Expectations about the files of a run, looked at from outside in its own layers.

The path is resolved by the kernel beneath a handle on the run's root (``openat2``), links as inside, so that
nothing of the host can be reached by it, whatever the run exchanges meanwhile. Only the layers are seen: what
is mounted inside (/dev, /proc, /sys, folders in memory) is not, and is said to be unknown.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import resource
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from registry.contract.expectations import FileExpectation
from registry.contract.report import Observation
from sandbox.bundles.rootfs import Found, Rootfs, open_rootfs
from sandbox.probes.attempt import Answer, Attempt, Attempting
from sandbox.probes.base import View, lines_pattern, retry_delay
from sandbox.syscalls import PR_SET_NO_NEW_PRIVS, prctl, set_capabilities

CONTENT_BYTES = 64 * 1024
DIGESTED_BYTES = 64 * 1024 * 1024
_LOOK_SECONDS = 3.0
_CAP_DAC_READ_SEARCH = 2
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
_ODD = {
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


@dataclass(slots=True)
class FileProbe(Attempting):
    """Looks until it is met, and once more when the command has ended or ``within_seconds`` have passed; for
    what is to be absent only then. ``mounted`` are the paths where something else is mounted inside."""

    tells_ready: ClassVar[bool] = False
    expected: FileExpectation
    root: Path
    mounted: Sequence[str]
    within_seconds: float
    _next_at: float = field(default=0.0, init=False)

    def poll(self, view: View) -> Observation | None:
        """One look at a time."""
        last = view.seconds >= self.within_seconds or view.ending is not None or bool(view.over)
        if view.over == "cancelled":
            return self._observation(Answer(None, view.over))
        if last:
            self.close()
            return self._observation(self._last_look(view.left()))
        if (answer := self._answered()) is not None:
            self._next_at = view.seconds + retry_delay(self._attempts)
            if answer.met:
                return self._observation(answer)
        if self._attempt is None and view.seconds >= self._next_at and not self.expected.absent:
            self._begin(self._look(), timeout_seconds=min(_LOOK_SECONDS, max(view.left(), 0.0)))
        return None

    def _last_look(self, left_seconds: float) -> Answer:
        if left_seconds <= 0:
            return Answer(None, "the time of the run was used up before it could be looked at")
        answer = Attempt(self._look(), timeout_seconds=min(_LOOK_SECONDS, left_seconds)).wait()
        return Answer(None, "it could not be looked at in time") if answer.timed_out else answer

    def _look(self) -> Callable[[], Answer]:
        return partial(look, self.expected, self.root, self.mounted)

    def _observation(self, answer: Answer) -> Observation:
        return Observation(expectation=self.expected.in_words()[:300], seen=answer.seen, met=answer.met)


def look(expected: FileExpectation, root: Path, mounted: Sequence[str]) -> Answer:
    """What stands at the path, in a process of its own."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    set_capabilities(1 << _CAP_DAC_READ_SEARCH)
    for kind, most in ((resource.RLIMIT_CPU, 2), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NPROC, 0)):
        resource.setrlimit(kind, (most, most))
    try:
        with open_rootfs(root) as rootfs:
            return judge_file(expected, rootfs, mounted)
    except OSError as error:
        return Answer(None, f"it cannot be looked at: {error.strerror}")


def judge_file(expected: FileExpectation, rootfs: Rootfs, mounted: Sequence[str]) -> Answer:
    """Whether what stands at the path is as expected.

    Raises:
        OSError: it cannot be looked at.
    """
    follow = expected.kind != "link" and not expected.absent
    found = rootfs.find(expected.path, follow=follow)
    if found is None:
        return _nothing(expected, rootfs, mounted, follow=follow)
    try:
        if (point := _mount_of(found.where, mounted)) is not None:
            return _unseen(point)
        return _compared(expected, found)
    finally:
        os.close(found.fd)


def _compared(expected: FileExpectation, found: Found) -> Answer:
    kind = _KINDS.get(stat.S_IFMT(found.mode))
    permissions = stat.S_IMODE(found.mode)
    size = f" of {found.size_bytes} bytes" if kind == "file" else ""
    name = kind or _ODD.get(stat.S_IFMT(found.mode), "special file")
    seen = f"a {name}{size}, mode {permissions:04o}"
    if expected.absent or kind is None or (expected.kind or kind) != kind:
        return Answer(False, seen)
    if expected.mode is not None and int(expected.mode, 8) != permissions:
        return Answer(False, seen)
    if expected.match is None and expected.digest is None:
        return Answer(True, seen)
    if kind != "file":
        return Answer(False, f"{seen}, without content")
    if expected.digest is not None:
        if found.size_bytes > DIGESTED_BYTES:
            return Answer(None, f"{seen}, which is too large to look at all of it")
        digest = f"sha256:{hashlib.sha256(found.read(DIGESTED_BYTES + 1)).hexdigest()}"
        if digest != expected.digest:
            return Answer(False, f"{seen}, and its digest is {digest}")
        seen = f"{seen}, and its digest is that"
    if expected.match is None:
        return Answer(True, seen)
    content = found.read(CONTENT_BYTES).decode("utf-8", "replace")
    if lines_pattern(expected.match).search(content):
        return Answer(True, f"{seen}, and its content matches")
    return Answer(False, f"{seen}, but its content does not match")


def _nothing(expected: FileExpectation, rootfs: Rootfs, mounted: Sequence[str], *, follow: bool) -> Answer:
    for above in (expected.path, *_parents(expected.path)):
        if (where := rootfs.resolve(above)) is not None:
            if (point := _mount_of(where, mounted)) is not None:
                return _unseen(point)
            break
    link = rootfs.find(expected.path, follow=False) if follow else None
    if link is None:
        return Answer(expected.absent, "nothing is there")
    try:
        target = os.readlink("", dir_fd=link.fd)
    finally:
        os.close(link.fd)
    leads = posixpath.normpath(posixpath.join(posixpath.dirname(link.where), target))
    if (point := _mount_of("/" + leads.lstrip("/"), mounted)) is not None:
        return _unseen(point)
    return Answer(False, "a link that leads nowhere")


def _parents(path: str) -> Sequence[str]:
    names = path.strip("/").split("/")
    return ["/" + "/".join(names[:depth]) for depth in range(len(names) - 1, -1, -1)]


def _mount_of(path: str, mounted: Sequence[str]) -> str | None:
    """The mount point that ``path`` lies below."""
    return next((one for one in mounted if path == one or path.startswith(one.rstrip("/") + "/")), None)


def _unseen(point: str) -> Answer:
    return Answer(None, f"{point} is mounted in the run alone, and is not seen from outside")
