"""The control group above all runs of a worker: what they may use together, so as not to starve the host.

It is made before the first run and holds by itself: a runtime that passes over a run's own limit is held by
this one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from registry.errors import RequestInvalidError
from sandbox.errors import SandboxError
from sandbox.runtimes.cgroups import Cgroups, is_below_root, swap_is_limited
from sandbox.runtimes.readings import AppliedLimits, format_cpu_set, parse_cpu_set, read_limits

_PERIOD = 100_000
_RESERVE_BYTES = 512 * 1024 * 1024
_RESERVE_PIDS = 256
_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What all runs of a worker together may use; ``None`` is no ceiling of its own."""

    memory_bytes: int | None = None
    pids: int | None = None
    cpus: float | None = None
    cpu_set: frozenset[int] | None = None
    """The only processors that runs are put on."""


def default_ceiling(cgroups: Cgroups) -> Ceiling:
    """All but a reserve of the memory, and half of the process ids of the host; no more of either than the
    group has that was handed to the worker, but for what the worker itself takes."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    host = min(
        int(Path("/proc/sys/kernel", name).read_text(encoding="ascii")) for name in ("pid_max", "threads-max")
    )
    pids = [host // 2]
    for group in _handed(cgroups):
        held = read_limits(cgroups, group, None)
        memory = min(memory, held.memory_bytes or memory)
        pids += [max(held.pids - _RESERVE_PIDS, held.pids // 2)] if held.pids else []
    reserve = min(max(memory // 10, _RESERVE_BYTES), memory // 2)
    return Ceiling(memory_bytes=memory - reserve, pids=min(pids))


def _handed(cgroups: Cgroups) -> Iterator[str]:
    """The group that was handed to the worker and those above it that can be seen, as paths from that one."""
    for depth in range(cgroups.prefix.count("/") or int(is_below_root(cgroups))):
        yield "../" * depth


def parse_processors(text: str) -> frozenset[int]:
    """What ``--cpu-set`` says, of processors that exist and that the worker itself may use.

    Raises:
        RequestInvalidError: it is no list, or names one that is not there.
    """
    try:
        wanted = parse_cpu_set(text)
    except ValueError:
        wanted = None
    if not wanted:
        raise RequestInvalidError(f"--cpu-set {text[:80]!r} is not a list of processors, as in 0-2,7")
    there = os.sched_getaffinity(0)
    if not wanted <= there:
        raise RequestInvalidError(
            f"--cpu-set {text[:80]}: there is no processor {min(wanted - there)} for this worker; "
            f"it has {format_cpu_set(there)}"
        )
    return wanted


def make_parent(cgroups: Cgroups, path: str, ceiling: Ceiling) -> AppliedLimits:
    """Make the group ``path`` with the ceiling, and read back what the kernel holds.

    Raises:
        SandboxError: ``isolation-missing``: it cannot be made, or does not hold.
    """
    try:
        if cgroups.version == 1:
            for controller, files in _v1_files(ceiling, swap=swap_is_limited(cgroups)).items():
                if (root := cgroups.by_controller.get(controller)) is not None:
                    _write(_v1_group(root, path, controller), files)
        elif cgroups.unified is not None:
            _write(_v2_group(cgroups.unified, path), _v2_files(ceiling))
        applied = read_limits(cgroups, path, None)
    except OSError as error:
        raise SandboxError(
            "isolation-missing", f"the control group of all runs cannot be made: {error}"
        ) from None
    missing = _missing(applied, ceiling)
    if missing:
        raise SandboxError(
            "isolation-missing", f"the kernel does not hold the ceiling of {missing} for all runs"
        )
    return applied


def with_defaults(ceiling: Ceiling, cgroups: Cgroups) -> Ceiling:
    """``ceiling``, with the default where it says nothing."""
    default = default_ceiling(cgroups)
    return replace(
        ceiling,
        memory_bytes=ceiling.memory_bytes or default.memory_bytes,
        pids=ceiling.pids or default.pids,
    )


def _missing(applied: AppliedLimits, ceiling: Ceiling) -> str | None:
    if _above(applied.memory_bytes, ceiling.memory_bytes):
        return "memory"
    if _above(applied.pids, ceiling.pids):
        return "processes"
    if _above(applied.cpus, None if ceiling.cpus is None else ceiling.cpus + 0.001):
        return "processor time"
    if ceiling.cpu_set is not None and not (applied.cpu_set and applied.cpu_set <= ceiling.cpu_set):
        return "processors"
    return None


def _above(applied: float | None, ceiling: float | None) -> bool:
    return ceiling is not None and (applied is None or applied > ceiling)


def _v1_files(ceiling: Ceiling, *, swap: bool) -> Mapping[str, Mapping[str, str]]:
    memory = _known({"memory.limit_in_bytes": ceiling.memory_bytes})
    if swap:
        memory |= _known({"memory.memsw.limit_in_bytes": ceiling.memory_bytes})
    quota = None if ceiling.cpus is None else int(ceiling.cpus * _PERIOD)
    return {
        "memory": memory,
        "pids": _known({"pids.max": ceiling.pids}),
        "cpu": _known({"cpu.cfs_quota_us": quota}),
        "cpuset": _known({"cpuset.cpus": _list(ceiling)}),
    }


def _v2_files(ceiling: Ceiling) -> Mapping[str, str]:
    quota = None if ceiling.cpus is None else f"{int(ceiling.cpus * _PERIOD)} {_PERIOD}"
    return _known(
        {
            "memory.max": ceiling.memory_bytes,
            "pids.max": ceiling.pids,
            "cpu.max": quota,
            "cpuset.cpus": _list(ceiling),
        }
    )


def _list(ceiling: Ceiling) -> str | None:
    return None if ceiling.cpu_set is None else format_cpu_set(ceiling.cpu_set)


def _known(files: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in files.items() if value is not None}


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, value in files.items():
        try:
            (folder / name).write_text(value, encoding="ascii")
        except OSError:
            # Memory and swap together may be below memory alone for no moment: so the other way round.
            if not name.startswith("memory.limit"):
                raise
            (folder / "memory.memsw.limit_in_bytes").write_text(value, encoding="ascii")
            (folder / name).write_text(value, encoding="ascii")


def _v1_group(root: Path, path: str, controller: str) -> Path:
    above = root
    for folder in _steps(root, path):
        folder.mkdir(exist_ok=True)
        if controller == "cpuset":
            # A new group has no processors and no memory nodes until it is given some.
            for name in ("cpuset.cpus", "cpuset.mems"):
                if not (folder / name).read_text(encoding="ascii").strip():
                    (folder / name).write_text((above / name).read_text(encoding="ascii"), encoding="ascii")
        above = folder
    return above


def _v2_group(root: Path, path: str) -> Path:
    above = root
    for folder in _steps(root, path):
        for controller in _CONTROLLERS:
            # Each by itself: one that this kernel lacks must not cost the others.
            with suppress(OSError):
                (above / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
        folder.mkdir(exist_ok=True)
        above = folder
    return above


def _steps(root: Path, path: str) -> Iterator[Path]:
    folder = root
    for name in path.strip("/").split("/"):
        folder /= name
        yield folder
