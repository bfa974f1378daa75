"""A line of what a host can isolate, and those of the layers beside the runtime's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from sandbox import landlock
from sandbox.lsm.apparmor import apparmor_active, why_no_profile
from sandbox.lsm.selinux import selinux_active, why_no_label
from sandbox.network.fence import prove_fence
from sandbox.network.gateway import prove_egress, why_no_egress
from sandbox.packages import how_to_install
from sandbox.runtimes.base import Runtime
from sandbox.runtimes.cgroups import find_cgroups
from sandbox.runtimes.isolation import privileged
from sandbox.runtimes.oci import SEARCH
from sandbox.runtimes.outer import outer_program
from sandbox.syscalls import CLONE_NEWUSER, unshare

_BOOT = MappingProxyType(
    {
        "AppArmor": "a kernel booted with security=apparmor, as Debian and Ubuntu have it",
        "SELinux": "a kernel and a policy with SELinux, as Fedora and RHEL have it; one of the two is enough",
    }
)


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
    downgrade: str = ""
    """The name under which the operator may allow it to be missing."""
    applied: bool | None = None
    """Whether a run of an image of our own had it, as its record says; null where no run would show it."""
    proven: bool | None = None
    """Whether it held in that run, by the kernel's word and by what was tried from inside."""
    seen: str = ""
    """What was seen of it there."""

    @property
    def holds(self) -> bool:
        """Whether it is here, and nothing was seen to the contrary."""
        return self.available and self.proven is not False


def around(runtime: Runtime | None) -> tuple[HostMechanism, ...]:
    """What stands around a run beside its runtime."""
    version = landlock.version()
    scopes = version >= landlock.SCOPES_ABI
    counted = runtime is None or outer_program(runtime.info) is not None
    locked = in_child(_count_namespaces)
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
            available=locked is None,
            need="stated",
            detail=locked or "none can be made inside a run",
            without="only the list of system calls keeps a run from new namespaces",
            fix=""
            if locked is None
            else "run the worker outside of a container, or in one with --privileged",
        ),
    )


def _count_namespaces() -> None:
    # Who owns a user namespace may set its counts, whatever the rights towards the host.
    unshare(CLONE_NEWUSER)
    os.close(os.open("/proc/sys/user/max_user_namespaces", os.O_WRONLY))


def in_child(call: Callable[[], None]) -> str | None:
    """Why ``call`` fails in a forked child, or ``None``. The caller has no threads."""
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            call()
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return None if code == 0 else f"the kernel refuses: {os.strerror(abs(code))}"


def security_modules() -> tuple[HostMechanism, ...]:
    """AppArmor and SELinux."""
    reasons = {"AppArmor": why_no_profile(), "SELinux": why_no_label()}
    active = {"AppArmor": apparmor_active(), "SELinux": selinux_active()}
    return tuple(
        HostMechanism(
            name,
            available=why is None,
            need="stated",
            detail=why or "runs are under a profile of their own",
            without="one layer less behind the others",
            fix="" if why is None else "seatrial doctor --fix" if active[name] else _BOOT[name],
        )
        for name, why in reasons.items()
    )


def network() -> tuple[HostMechanism, ...]:
    """What stands around the sockets of a run, and what it takes to give it a network."""
    no_fence = (
        "needs root"
        if not privileged()
        else "cgroup version 2 is not mounted"
        if find_cgroups().unified is None
        else prove_fence()
    )
    refused = why_no_egress()
    no_way = refused or prove_egress()
    shown = "" if no_way else "rules and a limited link were made in a namespace of the moment, and read back"
    return (
        HostMechanism(
            "network fence",
            available=no_fence is None,
            need="stated",
            detail=no_fence or "programs at the control group hold a run to its own network namespace",
            without="one layer less behind the network namespace; what a run tries to reach is not seen",
            fix="" if no_fence is None else "root, Linux 5.14 or newer, and cgroup version 2 mounted",
        ),
        *(
            HostMechanism(
                name,
                available=no_way is None,
                need="stated",
                detail=no_way or detail,
                without="run specs that ask for a network are refused; all others have none anyway",
                fix="" if no_way is None else _egress_fix(),
                proven=None if refused else no_way is None,
                seen=shown,
            )
            for name, detail in (
                ("egress", "runs can be given a network, with --allow-egress"),
                ("bandwidth", "so many bits per second each way, held by a queue (tbf)"),
            )
        ),
    )


def _egress_fix() -> str:
    if not privileged():
        return "run the worker as root"
    if any(shutil.which(name, path=SEARCH) is None for name in ("ip", "tc", "nft")):
        return how_to_install("iproute2", "nftables")
    return "sysctl --write net.ipv4.ip_forward=1 (the host then forwards for others too, as its rules allow)"
