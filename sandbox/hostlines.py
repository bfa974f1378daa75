"""A line of what a host can isolate, and those of the layers beside the runtime's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sandbox import landlock
from sandbox.lsm.apparmor import apparmor_active, why_no_profile
from sandbox.lsm.selinux import selinux_active, why_no_label
from sandbox.runtimes.base import Runtime
from sandbox.runtimes.outer import outer_program


@dataclass(frozen=True, slots=True)
class HostMechanism:
    """One mechanism on this host."""

    name: str
    available: bool
    need: Literal["required", "downgrade", "stated"]
    """``required``: without it nothing is run. ``downgrade``: the operator may allow it to be missing, under
    this name. ``stated``: used where the host has it, and said so where not."""
    detail: str
    without: str = ""
    """What it costs to be without."""
    fix: str = ""
    """What to do about it."""
    proven: bool | None = None
    """Whether a run of an image of our own had it, by the kernel's word; null where no run would show it."""


def around(runtime: Runtime | None) -> tuple[HostMechanism, ...]:
    """What stands around a run beside its runtime."""
    version = landlock.version()
    scopes = version >= landlock.SCOPES_ABI
    counted = runtime is None or outer_program(runtime.info) is not None
    settings = Path("/proc/sys/user/max_user_namespaces")
    writable = os.access(settings, os.W_OK) and not os.statvfs(settings).f_flag & os.ST_RDONLY
    return (
        HostMechanism(
            "outer seccomp",
            available=counted,
            need="stated",
            detail="a list of refusals that the runtime itself is started under",
            without="the runtime's own list is the only one",
            fix="" if counted else "Linux 5.9 or newer",
        ),
        HostMechanism(
            "Landlock",
            available=scopes,
            need="stated",
            detail=f"version {version}" if version else "not in this kernel, or not active",
            without="signals, sockets and memory of others have one layer less before them",
            fix="" if scopes else "Linux 6.12 or newer, with landlock among the active modules (lsm=)",
        ),
        HostMechanism(
            "namespace count",
            available=writable,
            need="stated",
            detail="none can be made inside a run" if writable else "/proc/sys/user is read-only here",
            without="only the list of system calls keeps a run from new namespaces",
            fix="" if writable else "run the worker outside of a container, or in one with --privileged",
        ),
    )


def security_modules() -> tuple[HostMechanism, ...]:
    """AppArmor and SELinux."""
    without = "one layer less behind the others"
    fix = {"AppArmor": apparmor_active(), "SELinux": selinux_active()}
    reasons = {"AppArmor": why_no_profile(), "SELinux": why_no_label()}
    return tuple(
        HostMechanism(
            name,
            available=why is None,
            need="stated",
            detail=why or "runs are under a profile of their own",
            without=without,
            fix="seatrial doctor --fix" if why is not None and fix[name] else "",
        )
        for name, why in reasons.items()
    )
