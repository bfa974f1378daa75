"""Control groups of runs, version 1 and 2: where they are, and that nothing of them stays.

The runtime makes and fills the groups; here they are swept, since one that is killed leaves them behind.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

NEEDED = ("memory", "cpu", "pids")
_LEAF = "seatrial-worker"
_MARKS = ("trusted.delegate", "user.delegate")
"""How systemd marks a group that it hands out (``Delegate=yes``); the second since version 251."""


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Where the hierarchies of this host are mounted. ``by_controller`` is empty on version 2."""

    by_controller: Mapping[str, Path]
    unified: Path | None
    prefix: str = ""
    """Where ``unified`` is not the hierarchy's root but a group below it that was handed to this worker: its
    path."""

    @property
    def version(self) -> int:
        """1 also on a hybrid host, where version 2 limits nothing of ours."""
        return 1 if any(name in self.by_controller for name in NEEDED) else 2

    def controllers(self) -> frozenset[str]:
        """The names of controllers that can limit a run."""
        if self.version == 1:
            return frozenset(self.by_controller)
        if self.unified is None:
            return frozenset()
        return frozenset((self.unified / "cgroup.controllers").read_text(encoding="ascii").split())

    @property
    def block_io(self) -> str:
        """The name of the controller that holds the rates of disks."""
        return "blkio" if self.version == 1 else "io"

    def folders(self, path: str) -> tuple[Path, ...]:
        """The existing folders of the group ``path`` (absolute, as in ``/seatrial/x``), one per hierarchy."""
        roots = dict.fromkeys((*self.by_controller.values(), *((self.unified,) if self.unified else ())))
        # What another worker made may be closed to this one: then it is none of ours.
        return tuple(folder for root in roots if os.path.isdir(folder := root / path.lstrip("/")))


def find_cgroups() -> Cgroups:
    """The hierarchies mounted in this process's view."""
    by_controller: dict[str, Path] = {}
    unified: Path | None = None
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        mount_point = Path(left.split(" ")[4])
        if kind == "cgroup2" and unified is None:
            unified = mount_point
        elif kind == "cgroup":
            for name in options.split(","):
                # Runtimes make their groups in named hierarchies too, though nothing is limited there.
                if name not in ("rw", "ro") and ("=" not in name or name.startswith("name=")):
                    by_controller.setdefault(name, mount_point)
    found = Cgroups(by_controller, unified)
    prefix = _divided(found)
    return replace(found, unified=folder_of(unified, prefix), prefix=prefix) if prefix else found


def step_aside() -> None:
    """Put this process into a leaf below its control group, where that was handed out to be divided.

    A group (version 2) that has processes of its own gives no controllers to those below it. Root may write
    everywhere, so it goes by who said that the group is to be divided, and takes along what else is there: a
    service is one group, whatever its processes are.
    """
    cgroups = find_cgroups()
    folder = folder_of(cgroups.unified, _own_group()) if cgroups.version == 2 and not cgroups.prefix else None
    if folder is None:
        return
    root = os.geteuid() == 0
    if _handed_out(folder) if root else _is_writable(folder):
        with suppress(OSError):
            (folder / _LEAF).mkdir(exist_ok=True)
            for pid in pids_in(folder) if root else (0,):
                # One that has ended meanwhile needs no place.
                with suppress(ProcessLookupError):
                    (folder / _LEAF / "cgroup.procs").write_text(str(pid), encoding="ascii")


def _handed_out(folder: Path) -> bool:
    """Whether a group is one that systemd hands out, or all that a container sees of the hierarchy."""
    for mark in _MARKS:
        with suppress(OSError):
            if os.getxattr(folder, mark) == b"1":
                return True
    # Only the true root of the hierarchy is of no type.
    return _own_group() == "/" and (folder / "cgroup.type").exists()


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _divided(cgroups: Cgroups) -> str:
    """The group from which this process stepped aside, or an empty text."""
    above, _, name = _own_group().rpartition("/")
    if cgroups.version == 1 or cgroups.unified is None or name != _LEAF:
        return ""
    return above if os.access(cgroups.unified / above.lstrip("/"), os.W_OK) else ""


def _own_group() -> str:
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")


def why_no_limits(cgroups: Cgroups, *, privileged: bool) -> str | None:
    """Why runs cannot be limited as a whole, or ``None`` where they can."""
    if not privileged and not cgroups.prefix:
        return "a worker without root has no cgroup of its own to divide"
    missing = [name for name in NEEDED if name not in cgroups.controllers()]
    if missing:
        return f"no cgroup controller for {', '.join(missing)}"
    folder = cgroups.by_controller.get("memory") or cgroups.unified
    if folder is None or os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "the cgroup file system is read-only here"
    if is_below_root(cgroups) and pids_in(cgroups.unified or Path()):
        name = cgroups.prefix or "of this container"
        return f"the cgroup {name} has other processes than this worker's, and so cannot be divided"
    return None


def is_below_root(cgroups: Cgroups) -> bool:
    """Whether ``unified`` is a group like others; the true root alone, which is of no type, has no limits."""
    if cgroups.version == 1 or cgroups.unified is None:
        return False
    return bool(cgroups.prefix) or (cgroups.unified / "cgroup.type").exists()


def swap_is_limited(cgroups: Cgroups) -> bool:
    """Whether memory and swap together can be limited."""
    if cgroups.version == 1:
        memory = cgroups.by_controller.get("memory")
        return memory is not None and (memory / "memory.memsw.limit_in_bytes").exists()
    return True


def group_names(cgroups: Cgroups, parent: str) -> tuple[str, ...]:
    """Names of the groups directly below ``parent``, in any hierarchy."""
    found = {entry.name for folder in cgroups.folders(parent) for entry in folder.iterdir() if entry.is_dir()}
    return tuple(sorted(found))


def kill_group(cgroups: Cgroups, path: str) -> None:
    """Kill every process in the group, frozen ones too: at once where version 2 is mounted, else each."""
    for folder in cgroups.folders(path):
        for below in _bottom_up(folder):
            _kill_members(below)


def remove_group(cgroups: Cgroups, path: str, *, timeout_seconds: float = 10.0) -> bool:
    """Kill every process in the group and remove it from every hierarchy; whether nothing of it is left."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        for folder in cgroups.folders(path):
            for below in _bottom_up(folder):
                _kill_members(below)
                with suppress(OSError):
                    below.rmdir()
        if not cgroups.folders(path):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)


def members(cgroups: Cgroups, path: str) -> frozenset[int]:
    """Process ids in the group and below."""
    found: set[int] = set()
    for folder in cgroups.folders(path):
        for below in _bottom_up(folder):
            found.update(pids_in(below))
    return frozenset(found)


def _kill_members(folder: Path) -> None:
    # On version 1 a frozen process would never see the signal; on version 2 it does.
    for name, text in (("freezer.state", "THAWED"), ("cgroup.kill", "1")):
        with suppress(OSError):
            if (file := folder / name).exists():
                file.write_text(text, encoding="ascii")
    for pid in pids_in(folder):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def pids_in(folder: Path) -> Sequence[int]:
    """Process ids in this group itself; none where it is gone."""
    try:
        return [int(text) for text in (folder / "cgroup.procs").read_text(encoding="ascii").split()]
    except OSError:
        return ()


def _bottom_up(folder: Path) -> Iterator[Path]:
    for path, _, _ in os.walk(folder, topdown=False):
        yield Path(path)


def folder_of(root: Path | None, path: str) -> Path | None:
    """Where the group ``path`` is or would be in the hierarchy mounted at ``root``."""
    return None if root is None else root / path.lstrip("/")
