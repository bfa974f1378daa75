"""What is set and seen from within a run's own namespaces, before its command begins.

Each look is a forked child of the run's supervisor that enters the namespaces and answers with one line; it
takes nothing from the image, which has not run yet.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.contract.report import Mechanism
from sandbox.bundles.config import INIT, MASKED
from sandbox.errors import SandboxError
from sandbox.runtimes.base import RuntimeInfo
from sandbox.runtimes.ownkernel import verify_kernel_root
from sandbox.syscalls import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REMOUNT,
    enter,
    mount,
)

_PLAIN = MS_NOSUID | MS_NODEV | MS_NOEXEC
_SETTINGS = Path("/proc/sys/user")
NAMESPACE_COUNTS = tuple(
    f"max_{kind}_namespaces" for kind in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
)
_CLOCKS = {"monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME}


def enclose(pid: int, root: Path, document: Mapping[str, Any], runtime: RuntimeInfo) -> tuple[Mechanism, ...]:
    """Close what is still open between the runtime's ``create`` and ``start``, and look at what it made.

    Raises:
        SandboxError: ``isolation-missing``: something that was promised does not hold.
    """
    masked = () if runtime.kernel == "own" else MASKED
    answer = _asked(lambda: _enter(pid, masked))
    return (
        _pivot(pid, answer, document, None if runtime.kernel == "own" else root),
        _masks(answer),
        _time_offset(pid, document, runtime),
        _namespace_count(answer),
    )


def _enter(pid: int, masked: Sequence[str]) -> dict[str, Any]:
    """In a child: set what may be made in the run's user namespace, see the root of its mounts, and mask."""
    namespaces = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "mnt")]
    enter(namespaces[0], CLONE_NEWUSER)
    counts: dict[str, Any]
    try:
        counts = _forbid()
    except OSError as error:
        counts = {"refused": error.strerror}
    enter(namespaces[1], CLONE_NEWNS)
    root = os.stat("/")
    try:
        if masked:
            # Who has no id in the run makes no file there.
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        counts["masked"] = mask(masked)
    except OSError as error:
        counts["unmasked"] = error.strerror
    return {"root": [root.st_dev, root.st_ino], **counts}


def mask(paths: Sequence[str]) -> int:
    """Put something empty over each of the paths that is there, in the mount namespace of the caller; how
    many there were.

    The runtime has done so before. Its masks were a way out when an image could choose what is mounted
    (CVE-2025-31133); these are mounted when the image's root is all that is left, and none of it.
    """
    there = {path: stat.S_ISDIR(os.lstat(path).st_mode) for path in paths if os.path.lexists(path)}
    folders = [path for path, is_folder in there.items() if is_folder]
    if not folders:
        return 0
    first = folders[0]
    # Three files; under SELinux the kernel counts what their labels take as well.
    mount("tmpfs", first, "tmpfs", _PLAIN, "mode=555,size=4k,nr_inodes=32")
    os.close(os.open(f"{first}/file", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    os.mkdir(f"{first}/folder", 0o555)
    mount("none", first, None, MS_REMOUNT | MS_RDONLY | _PLAIN)
    # The first one last: it is where the others come from.
    for path in [*(path for path in there if path != first), first]:
        mount(f"{first}/{'folder' if there[path] else 'file'}", path, None, MS_BIND)
    if any(os.listdir(path) if is_folder else os.stat(path).st_size for path, is_folder in there.items()):
        raise OSError(errno.EBUSY, "something shows through")
    return len(there)


def _masks(answer: Mapping[str, Any]) -> Mechanism:
    name = "masked paths"
    if "unmasked" in answer:
        raise SandboxError("isolation-missing", f"paths of /proc cannot be masked: {answer['unmasked']}")
    count = answer["masked"]
    if not count:
        return Mechanism(name=name, applied=True, detail="own kernel: they are that kernel's")
    return Mechanism(
        name=name, applied=True, detail=f"{count} of /proc and /sys, twice: by runtime and worker"
    )


def _forbid() -> dict[str, Any]:
    # The kernel shows and sets what belongs to the user namespace of whoever opens the file.
    present = [_SETTINGS / one for one in NAMESPACE_COUNTS if (_SETTINGS / one).exists()]
    for setting in present:
        setting.write_text("0", encoding="ascii")
    return {"counts": {one.name: one.read_text(encoding="ascii").strip() for one in present}}


def _namespace_count(answer: Mapping[str, Any]) -> Mechanism:
    """None can be made inside the run's user namespace: neither its processes nor its runtime need any
    more. A new one is ENOSPC, whatever filters system calls."""
    name = "namespace count"
    if "refused" in answer:
        return Mechanism(name=name, applied=False, detail=f"the worker may not set it: {answer['refused']}")
    counts = answer["counts"]
    if not counts or set(counts.values()) != {"0"}:
        raise SandboxError(
            "isolation-missing", f"the kernel does not hold the limits of namespaces: {counts}"
        )
    return Mechanism(name=name, applied=True, detail=f"none of {len(counts)} kinds can be made inside")


def time_offsets() -> dict[str, int]:
    """Seconds by clock with which the clocks of a run begin near zero, whenever the host was started."""
    own = _read_offsets(os.getpid())
    # Offsets count from the host's clock, ours includes that of our own time namespace.
    return {name: own.get(name, 0) - int(time.clock_gettime(clock)) for name, clock in _CLOCKS.items()}


def _time_offset(pid: int, document: Mapping[str, Any], runtime: RuntimeInfo) -> Mechanism:
    """The offsets that the kernel holds for the run are those of its document."""
    name = "time offset"
    wanted = {clock: one["secs"] for clock, one in document["linux"].get("timeOffsets", {}).items()}
    if not wanted:
        detail = (
            "the host's uptime shows" if runtime.kernel == "host" else "own kernel: it counts from its start"
        )
        return Mechanism(name=name, applied=False, detail=f"no time namespace: {detail}")
    if _read_offsets(pid) != wanted:
        raise SandboxError("isolation-missing", "the run's clocks are not set off from the host's")
    return Mechanism(name=name, applied=True, detail="the clocks of the run begin near zero")


def _read_offsets(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/timens_offsets").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return {}
    return {name: int(seconds) for name, seconds, _ in (line.split() for line in lines)}


def _pivot(pid: int, answer: Mapping[str, Any], document: Mapping[str, Any], root: Path | None) -> Mechanism:
    """The root of the run's mount namespace is the image's, and nothing else is mounted in it; without
    ``root``, for a run with a kernel of its own, one in memory.

    To the process itself a changed root (chroot) looks the same. It is told apart by entering the namespace:
    that leads to the root of the namespace, which after a chroot is still the host's.
    """
    own = os.stat(f"/proc/{pid}/root/.")
    if answer["root"] != [own.st_dev, own.st_ino]:
        raise SandboxError("isolation-missing", "the run's root is not the root of its mount namespace")
    if root is None:
        return Mechanism(name="pivot_root", applied=True, detail=verify_kernel_root(pid, started=False))
    mounts = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    fields = [line.split() for line in mounts]
    points = [one[4] for one in fields]
    image = os.stat(root)
    if answer["root"] != [image.st_dev, image.st_ino]:
        raise SandboxError("isolation-missing", "the run's root is not the image's")
    foreign = [one for one in points if not _expected(one, document)]
    if foreign:
        raise SandboxError("isolation-missing", f"something else is mounted inside: {foreign[0][:200]}")
    binds = _binds(document, {one[4]: frozenset(one[5].split(",")) for one in fields})
    host = "of the host's tree only the init" if INIT in points else "none of the host's tree"
    if binds:
        host = f"{host}, and {binds} folders to be looked at, read-only"
    detail = f"the mount namespace begins at the image; {len(points)} mounts, {host}"
    return Mechanism(name="pivot_root", applied=True, detail=detail)


def _binds(document: Mapping[str, Any], options: Mapping[str, frozenset[str]]) -> int:
    """How many folders of the worker the run sees; none that it may change or execute."""
    asked = [one for one in document["mounts"] if one["type"] == "bind" and one["destination"] != INIT]
    for one in asked:
        held = options.get(one["destination"], frozenset())
        if lacking := {"ro", "nosuid", "nodev", "noexec"} - held:
            where = f"{one['destination']} is not {', '.join(sorted(lacking))}"
            raise SandboxError(
                "isolation-missing", f"what is shown to the run can be more than read: {where}"
            )
    return len(asked)


def _expected(point: str, document: Mapping[str, Any]) -> bool:
    linux = document["linux"]
    asked = {mount["destination"] for mount in document["mounts"]}
    return (
        point == "/"
        or point in asked | {*MASKED, *linux["readonlyPaths"]}
        or (
            # The runtime's own few devices.
            point.startswith("/dev/") and point.count("/") == 2
        )
    )


def _asked(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a forked child answers. The caller has no threads.

    Raises:
        SandboxError: ``isolation-missing``: it could not look.
    """
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                answer = look()
            except OSError as error:
                answer = {"error": error.strerror}
            os.write(write_fd, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as file:
        raw = file.read()
    os.waitpid(pid, 0)
    answer = json.loads(raw or b'{"error": "no answer"}')
    if "error" in answer:
        raise SandboxError("isolation-missing", f"the run's namespaces cannot be entered: {answer['error']}")
    assert isinstance(answer, dict)
    return answer
