"""What a run needs, what this host lacks of it, and what the operator allowed to be missing."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from sandbox.bundles.config import Surroundings, hard_rlimits
from sandbox.errors import SandboxError
from sandbox.lsm.apparmor import RUN_PROFILE, why_no_profile
from sandbox.lsm.selinux import run_labels
from sandbox.runtimes.base import DOWNGRADES, DowngradeName, RuntimeInfo
from sandbox.runtimes.cgroups import Cgroups, swap_is_limited, why_no_limits
from sandbox.runtimes.disks import disk_of
from sandbox.runtimes.init import find_init
from sandbox.runtimes.within import time_offsets
from sandbox.syscalls import initial_user_namespace


def read_surroundings(
    cgroups: Cgroups,
    *,
    time_namespace: bool,
    modules: bool = False,
    run_dir: Path | None = None,
    cpu_set: str | None = None,
    spare_pids: int = 0,
) -> Surroundings:
    """The facts of this host that a bundle depends on, as the calling process sees them.

    ``time_namespace`` is whether the runtime knows it, ``modules`` whether it applies AppArmor and SELinux;
    ``run_dir`` lies on the disk that the run writes to, ``cpu_set`` names the only processors of the worker's
    runs, ``spare_pids`` are for the kernel that the runtime brings along, 0 for none.
    """
    labels = run_labels() if modules else None
    controllers = cgroups.controllers()
    return Surroundings(
        machine=platform.machine(),
        hard_rlimits=hard_rlimits(),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii")),
        swap_limit=swap_is_limited(cgroups),
        time_namespace=time_namespace and Path("/proc/self/ns/time").exists(),
        time_offsets=time_offsets(),
        apparmor_profile=RUN_PROFILE if modules and why_no_profile() is None else None,
        process_label=labels.process if labels else None,
        mount_label=labels.files if labels else None,
        init=find_init(),
        cpu_set=cpu_set if "cpuset" in controllers else None,
        own_kernel=spare_pids > 0,
        spare_pids=spare_pids,
        disk=disk_of(run_dir) if run_dir is not None and cgroups.block_io in controllers else None,
    )


def privileged() -> bool:
    """Whether this process is root of the host, not only of a user namespace."""
    return os.geteuid() == 0 and initial_user_namespace()


def may_divide(cgroups: Cgroups) -> bool:
    """Whether this process may make control groups for runs: as root of the host, or in one handed to it."""
    return privileged() or cgroups.prefix != ""


def missing_isolation(info: RuntimeInfo, cgroups: Cgroups) -> Mapping[DowngradeName, str]:
    """What is missing here that an operator may allow, each with why."""
    missing: dict[DowngradeName, str] = {}
    why = why_no_limits(cgroups, privileged=privileged())
    if why is not None:
        missing["cgroup-limits"] = why
    if not info.seccomp:
        missing["seccomp"] = f"{info} cannot filter system calls"
    elif not Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        missing["seccomp"] = "the kernel cannot filter system calls"
    return missing


def check_downgrades(missing: Mapping[DowngradeName, str], allowed: frozenset[str]) -> tuple[str, ...]:
    """The names of what is missing and allowed to be.

    Raises:
        SandboxError: ``isolation-missing``: something is missing that was not allowed by name.
    """
    refused = [name for name in missing if name not in allowed]
    if refused:
        name = refused[0]
        raise SandboxError(
            "isolation-missing",
            f"{name}: {missing[name]}; the worker's operator may allow it with --allow-downgrade {name}"
            f" ({DOWNGRADES[name]})",
        )
    return tuple(missing)
