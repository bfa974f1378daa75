"""What a control group holds its processes to, and what they used, as the kernel says.

The runtime makes and fills the groups; they are read back, since it may pass over a limit in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.runtimes.cgroups import Cgroups, folder_of, pids_in

DEFAULT_WEIGHT = {1: 1024, 2: 100}
"""``cpu.shares`` and ``cpu.weight`` of a group that nobody gave another, by version."""
_V1_UNLIMITED = 2**60
_CPUS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


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
    pids_refused: int | None = None
    """Processes that could not begin for its limit; older kernels count those of groups above as well."""


def read_limits(cgroups: Cgroups, path: str, pid: int | None) -> AppliedLimits:
    """The limits of the group ``path``; one that ``pid`` is not in limits nothing."""

    def at(controller: str) -> Path | None:
        root = cgroups.by_controller.get(controller) if cgroups.version == 1 else cgroups.unified
        return folder_of(root, path) if pid is None else _member(root, path, pid)

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
        memory = folder_of(cgroups.by_controller.get("memory"), path)
        pids = folder_of(cgroups.by_controller.get("pids"), path)
        return _number(memory, "memory.usage_in_bytes"), _number(pids, "pids.current")
    folder = folder_of(cgroups.unified, path)
    return _number(folder, "memory.current"), _number(folder, "pids.current")


def read_usage(cgroups: Cgroups, path: str) -> Usage:
    """What the group used; to be read before it is removed."""
    if cgroups.version == 1:
        memory = folder_of(cgroups.by_controller.get("memory"), path)
        used = _number(folder_of(cgroups.by_controller.get("cpuacct"), path), "cpuacct.usage")
        waited = _entry(folder_of(cgroups.by_controller.get("cpu"), path), "cpu.stat", "throttled_time")
        pids = folder_of(cgroups.by_controller.get("pids"), path)
        blkio = folder_of(cgroups.by_controller.get("blkio"), path)
        moved = _text(blkio, "blkio.throttle.io_service_bytes_recursive")
        return Usage(
            oom_kills=_entry(memory, "memory.oom_control", "oom_kill") or 0,
            memory_peak_bytes=_number(memory, "memory.max_usage_in_bytes"),
            cpu_seconds=None if used is None else used / 1e9,
            throttled_seconds=None if waited is None else waited / 1e9,
            pids_peak=_number(pids, "pids.peak"),
            read_bytes=_v1_bytes(moved, "Read"),
            written_bytes=_v1_bytes(moved, "Write"),
            pids_refused=_entry(pids, "pids.events", "max"),
        )
    folder = folder_of(cgroups.unified, path)
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
        pids_refused=_entry(folder, "pids.events", "max"),
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


def _member(root: Path | None, path: str, pid: int) -> Path | None:
    folder = folder_of(root, path)
    return folder if folder is not None and pid in pids_in(folder) else None


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
