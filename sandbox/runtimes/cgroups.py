"""Control groups of runs, version 1 and 2: what was applied, what was used, and that nothing stays.

The runtime makes and fills the groups; here they are read back, since a runtime may pass over a limit in
silence, and swept, since one that is killed leaves them behind.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

NEEDED = ("memory", "cpu", "pids")
_LEAF = "seatrial-worker"
DEFAULT_WEIGHT = {1: 1024, 2: 100}
"""``cpu.shares`` and ``cpu.weight`` of a group that nobody gave another, by version."""
_V1_UNLIMITED = 2**60
_CPUS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Where the hierarchies of this host are mounted. ``by_controller`` is empty on version 2."""

    by_controller: Mapping[str, Path]
    unified: Path | None
    prefix: str = ""
    """Where ``unified`` is not the hierarchy's root but a group below it that was handed to this user: its
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


@dataclass(frozen=True, slots=True)
class AppliedLimits:
    """What the kernel holds; ``None`` where there is no limit."""

    memory_bytes: int | None
    swap_bytes: int | None
    """Swap beside the memory."""
    pids: int | None
    cpus: float | None
    cpu_set: frozenset[int] | None = None
    """Processors that it may use at all."""
    device_rates: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)
    """By device (``8:0``): bytes per second to read and to write."""
    cpu_weight: int | None = None
    """Its part of the processors where others want them too; each group has ``DEFAULT_WEIGHT`` by itself."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run used so far; ``None`` where this kernel does not say."""

    oom_kills: int
    memory_peak_bytes: int | None
    cpu_seconds: float | None
    throttled_seconds: float | None = None
    """Waited for a processor because of the limit."""
    pids_peak: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None


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
    return replace(found, unified=_folder(unified, prefix), prefix=prefix) if prefix else found


def step_aside() -> None:
    """Put this process into a leaf below its control group, where that is its user's to divide; else nothing.

    A group (version 2) that has processes of its own gives no controllers to those below it.
    """
    cgroups = find_cgroups()
    folder = _folder(cgroups.unified, _own_group()) if cgroups.version == 2 and not cgroups.prefix else None
    if folder is not None and os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK):
        with suppress(OSError):
            (folder / _LEAF).mkdir(exist_ok=True)
            (folder / _LEAF / "cgroup.procs").write_text("0", encoding="ascii")


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
    if cgroups.prefix and _pids(cgroups.unified or Path()):
        return f"the cgroup {cgroups.prefix} has other processes than this worker's, and so cannot be divided"
    missing = [name for name in NEEDED if name not in cgroups.controllers()]
    if missing:
        return f"no cgroup controller for {', '.join(missing)}"
    folder = cgroups.by_controller.get("memory") or cgroups.unified
    if folder is None or os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "the cgroup file system is read-only here"
    return None


def swap_is_limited(cgroups: Cgroups) -> bool:
    """Whether memory and swap together can be limited."""
    if cgroups.version == 1:
        memory = cgroups.by_controller.get("memory")
        return memory is not None and (memory / "memory.memsw.limit_in_bytes").exists()
    return True


def read_limits(cgroups: Cgroups, path: str, pid: int | None) -> AppliedLimits:
    """The limits of the group ``path``; one that ``pid`` is not in limits nothing."""

    def at(controller: str) -> Path | None:
        root = cgroups.by_controller.get(controller) if cgroups.version == 1 else cgroups.unified
        return _folder(root, path) if pid is None else _member(root, path, pid)

    if cgroups.version == 1:
        limit = _number(at("memory"), "memory.limit_in_bytes")
        both = _number(at("memory"), "memory.memsw.limit_in_bytes")
        quota = _number(at("cpu"), "cpu.cfs_quota_us")
        period = _number(at("cpu"), "cpu.cfs_period_us")
        limit = None if limit is None or limit > _V1_UNLIMITED else limit
        rates = (
            _device_rates(_text(at("blkio"), f"blkio.throttle.{way}_bps_device")) for way in ("read", "write")
        )
        return AppliedLimits(
            memory_bytes=limit,
            swap_bytes=None if both is None or limit is None else max(0, both - limit),
            pids=_number(at("pids"), "pids.max"),
            cpus=quota / period if quota and period and quota > 0 else None,
            cpu_set=parse_cpu_set(_text(at("cpuset"), "cpuset.effective_cpus")),
            device_rates=_both_ways(*rates),
            cpu_weight=_number(at("cpu"), "cpu.shares"),
        )
    folder = at("")
    quota_text, _, period_text = (_text(folder, "cpu.max") or "max").partition(" ")
    return AppliedLimits(
        memory_bytes=_number(folder, "memory.max"),
        swap_bytes=_number(folder, "memory.swap.max"),
        pids=_number(folder, "pids.max"),
        cpus=int(quota_text) / int(period_text) if quota_text.isdigit() and period_text else None,
        cpu_set=parse_cpu_set(_text(folder, "cpuset.cpus.effective")),
        device_rates={
            device: (entries.get("rbps"), entries.get("wbps"))
            for device, entries in _io_lines(_text(folder, "io.max"))
        },
        cpu_weight=_number(folder, "cpu.weight"),
    )


def read_level(cgroups: Cgroups, path: str) -> tuple[int | None, int | None]:
    """Bytes of memory that the group holds now, and its processes and threads."""
    if cgroups.version == 1:
        memory = _folder(cgroups.by_controller.get("memory"), path)
        pids = _folder(cgroups.by_controller.get("pids"), path)
        return _number(memory, "memory.usage_in_bytes"), _number(pids, "pids.current")
    folder = _folder(cgroups.unified, path)
    return _number(folder, "memory.current"), _number(folder, "pids.current")


def read_usage(cgroups: Cgroups, path: str) -> Usage:
    """What the group used; to be read before it is removed."""
    if cgroups.version == 1:
        memory = _folder(cgroups.by_controller.get("memory"), path)
        used = _number(_folder(cgroups.by_controller.get("cpuacct"), path), "cpuacct.usage")
        waited = _entry(_folder(cgroups.by_controller.get("cpu"), path), "cpu.stat", "throttled_time")
        blkio = _folder(cgroups.by_controller.get("blkio"), path)
        moved = _text(blkio, "blkio.throttle.io_service_bytes_recursive")
        return Usage(
            oom_kills=_entry(memory, "memory.oom_control", "oom_kill") or 0,
            memory_peak_bytes=_number(memory, "memory.max_usage_in_bytes"),
            cpu_seconds=None if used is None else used / 1e9,
            throttled_seconds=None if waited is None else waited / 1e9,
            pids_peak=_number(_folder(cgroups.by_controller.get("pids"), path), "pids.peak"),
            read_bytes=_v1_bytes(moved, "Read"),
            written_bytes=_v1_bytes(moved, "Write"),
        )
    folder = _folder(cgroups.unified, path)
    micros, waited = (_entry(folder, "cpu.stat", key) for key in ("usage_usec", "throttled_usec"))
    moved = _text(folder, "io.stat")
    return Usage(
        oom_kills=_entry(folder, "memory.events", "oom_kill") or 0,
        memory_peak_bytes=_number(folder, "memory.peak"),
        cpu_seconds=None if micros is None else micros / 1e6,
        throttled_seconds=None if waited is None else waited / 1e6,
        pids_peak=_number(folder, "pids.peak"),
        read_bytes=None if moved is None else sum(one.get("rbytes", 0) for _, one in _io_lines(moved)),
        written_bytes=None if moved is None else sum(one.get("wbytes", 0) for _, one in _io_lines(moved)),
    )


def parse_cpu_set(text: str | None) -> frozenset[int] | None:
    """The kernel's list of processors (``0-2,7``); ``None`` where there is none.

    Raises:
        ValueError: it is no such list.
    """
    if not text:
        return None
    found: set[int] = set()
    for part in text.split(","):
        match = _CPUS.fullmatch(part)
        if match is None:
            raise ValueError("not a list of processors")
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def format_cpu_set(cpus: Iterable[int]) -> str:
    """As the kernel takes it: one number after the other."""
    return ",".join(str(number) for number in sorted(cpus))


def _device_rates(text: str | None) -> Mapping[str, int]:
    pairs = (line.split() for line in (text or "").splitlines())
    return {device: int(rate) for device, rate in pairs}


def _both_ways(
    reads: Mapping[str, int], writes: Mapping[str, int]
) -> Mapping[str, tuple[int | None, int | None]]:
    return {device: (reads.get(device), writes.get(device)) for device in {**reads, **writes}}


def _v1_bytes(text: str | None, way: str) -> int | None:
    if text is None:
        return None
    lines = (line.split() for line in text.splitlines())
    return sum(int(fields[2]) for fields in lines if len(fields) == 3 and fields[1] == way)


def _io_lines(text: str | None) -> Iterator[tuple[str, Mapping[str, int]]]:
    for line in (text or "").splitlines():
        device, *pairs = line.split()
        entries = (pair.partition("=") for pair in pairs)
        yield device, {key: int(value) for key, _, value in entries if value.isdigit()}


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
            found.update(_pids(below))
    return frozenset(found)


def _kill_members(folder: Path) -> None:
    # On version 1 a frozen process would never see the signal; on version 2 it does.
    for name, text in (("freezer.state", "THAWED"), ("cgroup.kill", "1")):
        with suppress(OSError):
            if (file := folder / name).exists():
                file.write_text(text, encoding="ascii")
    for pid in _pids(folder):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _pids(folder: Path) -> Sequence[int]:
    try:
        return [int(text) for text in (folder / "cgroup.procs").read_text(encoding="ascii").split()]
    except OSError:
        return ()


def _bottom_up(folder: Path) -> Iterator[Path]:
    for path, _, _ in os.walk(folder, topdown=False):
        yield Path(path)


def _folder(root: Path | None, path: str) -> Path | None:
    return None if root is None else root / path.lstrip("/")


def _member(root: Path | None, path: str, pid: int) -> Path | None:
    folder = _folder(root, path)
    return folder if folder is not None and pid in _pids(folder) else None


def _text(folder: Path | None, name: str) -> str | None:
    if folder is None:
        return None
    try:
        return (folder / name).read_text(encoding="ascii").strip()
    except OSError:
        return None


def _number(folder: Path | None, name: str) -> int | None:
    text = _text(folder, name)
    return int(text) if text is not None and text.lstrip("-").isdigit() else None


def _entry(folder: Path | None, name: str, key: str) -> int | None:
    for line in (_text(folder, name) or "").splitlines():
        word, _, value = line.partition(" ")
        if word == key and value.strip().isdigit():
            return int(value)
    return None
