"""The limits that the kernel holds a run to, read back from its control group."""

from __future__ import annotations

from registry.contract.limits import Limits
from registry.contract.report import Mechanism, RunLimits
from sandbox.errors import SandboxError
from sandbox.runtimes.isolation import check_downgrades
from sandbox.runtimes.readings import (
    DEFAULT_WEIGHT,
    AppliedLimits,
    format_cpu_set,
    parse_cpu_set,
    read_limits,
)
from sandbox.runtimes.sockets import hold_sockets
from sandbox.runtimes.underway import Underway


def verify_limits(trial: Underway) -> tuple[Mechanism, ...]:
    """The limits that the kernel holds the run to, as lines of its record; what they are is noted in
    ``trial``, and so is a downgrade that the operator allowed.

    Raises:
        SandboxError: ``isolation-missing``: one that was asked for does not hold.
    """
    limits = trial.job.plan.limits
    held: dict[str, float | None] = {
        "written_bytes": limits.written_bytes,
        "wall_seconds": limits.wall_seconds,
    }
    trial.limits = RunLimits.model_validate(held)
    if "cgroup-limits" in trial.downgrades:
        detail = "limits: partial; memory and processor time of each process alone, by rlimits"
        return (
            Mechanism(name="cgroup limits", applied=False, detail=detail),
            *(
                Mechanism(name=name, applied=False, detail="without cgroup limits")
                for name in ("cpu set", "block io")
            ),
        )
    applied = read_limits(trial.cgroups, trial.cgroup, trial.pid)
    held |= {"memory_bytes": applied.memory_bytes, "cpus": applied.cpus, "pids": applied.pids}
    trial.limits = RunLimits.model_validate(held)
    version = trial.cgroups.version
    return (
        _verify_main_limits(trial, applied),
        cpu_set_line(applied, trial.job.cpu_set),
        block_io_line(applied, limits, trial.surroundings.disk, version=version),
    )


def _verify_main_limits(trial: Underway, applied: AppliedLimits) -> Mechanism:
    limits = trial.job.plan.limits
    swap = "swap" in trial.document["linux"]["resources"]["memory"]
    spare = trial.surroundings.spare_pids
    problems = limit_problems(applied, limits, swap=swap, spare_pids=spare)
    if problems:
        names = ", ".join(problems)
        trial.downgrades = (
            *trial.downgrades,
            *check_downgrades(
                {"cgroup-limits": f"the kernel does not hold the limit of {names}"},
                frozenset(trial.job.allowed_downgrades),
            ),
        )
        return Mechanism(name="cgroup limits", applied=False, detail=f"without {names}")
    detail = (
        f"v{trial.cgroups.version}: memory {applied.memory_bytes}, pids {applied.pids}, cpus {applied.cpus}"
    )
    if trial.cgroups.version == 1:
        detail += f", sockets {hold_sockets(trial.cgroups, trial.cgroup, limits.memory_bytes)}"
    if applied.cpu_weight is not None:
        detail += f", cpu weight {applied.cpu_weight} as all runs"
    if spare:
        detail += f"; {spare} of the pids are for the run's own kernel, which shares the memory"
    above = read_limits(trial.cgroups, trial.runtime.cgroup_parent, None)
    if above.memory_bytes is not None and above.pids is not None:
        detail += f"; all runs together: memory {above.memory_bytes}, pids {above.pids}"
    return Mechanism(name="cgroup limits", applied=True, detail=detail)


def limit_problems(
    applied: AppliedLimits, limits: Limits, *, swap: bool, spare_pids: int = 0
) -> tuple[str, ...]:
    """Which limits do not hold as they were asked for; ``spare_pids`` come on top of the run's own."""
    problems = []
    if applied.memory_bytes is None or applied.memory_bytes > limits.memory_bytes:
        problems.append("memory")
    if swap and applied.swap_bytes:
        problems.append("swap")
    if applied.pids is None or applied.pids > limits.pids + spare_pids:
        problems.append("pids")
    # The kernel takes no quota below a millisecond.
    if applied.cpus is None or applied.cpus > max(limits.cpus, 0.01) + 0.001:
        problems.append("cpu")
    # A runtime of another mind must not give one run more of the processors than the next.
    if applied.cpu_weight is not None and applied.cpu_weight not in DEFAULT_WEIGHT.values():
        problems.append("even cpu")
    return tuple(problems)


def cpu_set_line(applied: AppliedLimits, asked: str | None) -> Mechanism:
    """The processors that the run is put on.

    Raises:
        SandboxError: ``isolation-missing``: the worker has some of its own, and the run is not kept to them.
    """
    name = "cpu set"
    if asked is None:
        return Mechanism(name=name, applied=False, detail="not asked for: any of the host's processors")
    wanted = parse_cpu_set(asked) or frozenset()
    if not applied.cpu_set or not applied.cpu_set <= wanted:
        raise SandboxError(
            "isolation-missing", f"the run is not kept to the processors {asked}: this host has no cpuset"
        )
    return Mechanism(name=name, applied=True, detail=f"processors {format_cpu_set(applied.cpu_set)}")


def block_io_line(
    applied: AppliedLimits, limits: Limits, disk: tuple[int, int] | None, *, version: int
) -> Mechanism:
    """What the run may read and write each second.

    Raises:
        SandboxError: ``isolation-missing``: there is a limit, and the kernel does not hold it.
    """
    name, rate = "block io", limits.io_bytes_per_second
    if rate is None:
        return Mechanism(name=name, applied=False, detail="not asked for: no limit of bytes per second")
    if disk is None:
        detail = "the worker's folder is on no one disk of which a control group could limit the rate"
        raise SandboxError("isolation-missing", f"io_bytes_per_second: {detail}")
    reads, writes = applied.device_rates.get(f"{disk[0]}:{disk[1]}", (None, None))
    if reads is None or writes is None or reads > rate or writes > rate:
        raise SandboxError("isolation-missing", "io_bytes_per_second: the kernel does not hold the limit")
    detail = f"device {disk[0]}:{disk[1]}, {rate} bytes per second each to read and to write"
    if version == 1:
        detail += "; cgroup version 1 holds reads and direct writes, not those that the kernel does later"
    return Mechanism(name=name, applied=True, detail=detail)
