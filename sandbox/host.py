"""What this host can isolate, mechanism by mechanism (MISSION.md S1 to S10)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.hostlines import HostMechanism, around, security_modules
from sandbox.network.fence import prove_fence
from sandbox.network.gateway import prove_egress, why_no_egress
from sandbox.rootless import why_not_rootless
from sandbox.runtimes.base import DOWNGRADES, Runtime
from sandbox.runtimes.cgroups import find_cgroups, swap_is_limited
from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.isolation import missing_isolation, privileged
from sandbox.syscalls import CLONE_NEWUSER, unshare

_NAMESPACES = {"mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}
_FIXES = {
    "cgroup-limits": "run the worker as root, on a host with the cgroup controllers memory, cpu and pids",
    "seccomp": "install a runc that is built with libseccomp",
}


@dataclass(frozen=True, slots=True)
class HostReport:
    """Every mechanism, in the order in which it is shown."""

    mechanisms: tuple[HostMechanism, ...]

    @property
    def exit_code(self) -> int:
        """0: everything promised; 1: something must be allowed as a downgrade; 2: nothing can be run."""
        missing = {one.need for one in self.mechanisms if not one.available}
        return 2 if "required" in missing else 1 if "downgrade" in missing else 0


def inspect_host(state: Path, *, runtime: str, outside: str | None) -> HostReport:
    """Look at everything that can be seen without running anything.

    ``state`` is where a runtime would keep its state; ``outside`` says why a plain user's process could not
    enter a user namespace of its own, if so. The calling process has no threads: it is forked.
    """
    found: Runtime | None = None
    try:
        found = find_runtime(state, name=runtime)
        line = HostMechanism("runtime", available=True, need="required", detail=str(found.info))
    except SandboxError as error:
        line = HostMechanism(
            "runtime", available=False, need="required", detail=error.message, fix="install the package runc"
        )
    return HostReport(
        (
            line,
            *_known_holes(found),
            _user_namespace(outside),
            *_namespaces(found),
            _safe_paths(),
            _no_new_privs(),
            *_downgrades(found),
            _swap(),
            *_disks_and_processors(),
            *_network(),
            *around(found),
            *security_modules(),
        )
    )


def _known_holes(runtime: Runtime | None) -> tuple[HostMechanism, ...]:
    if runtime is None:
        return ()
    holes = runtime.info.known_holes
    detail = f"{runtime.info} has no published hole that images can use"
    if holes:
        detail = f"by its version {runtime.info} may have: {'; '.join(holes)}"
    return (
        HostMechanism(
            "current runtime",
            available=not holes,
            need="stated",
            detail=detail,
            without="checks of our own close each of them; a back-ported fix cannot be seen from the version",
            fix="runc 1.3.6, 1.4.3, 1.5.0 or newer",
        ),
    )


def _user_namespace(outside: str | None) -> HostMechanism:
    why, fix = outside, ""
    if why is None:
        why = _in_child(lambda: unshare(CLONE_NEWUSER))
    if why is not None:
        fix = _user_namespace_fix()
    detail = why or ("as root of this host" if privileged() else "as a plain user, with a range of ids")
    return HostMechanism(
        "user namespace",
        available=why is None,
        need="required",
        detail=detail,
        without="root inside would be root outside",
        fix=fix,
    )


def _user_namespace_fix() -> str:
    if _read("/proc/sys/user/max_user_namespaces") == "0":
        return "sysctl user.max_user_namespaces=15000"
    if os.geteuid() != 0 and _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "sysctl kernel.unprivileged_userns_clone=1, or run the worker as root"
    if os.geteuid() != 0 and _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "an AppArmor profile with 'userns,' for this program, or run the worker as root"
    if os.geteuid() != 0 and (why := why_not_rootless()) is not None:
        return why
    return "run the worker outside of a container, or in one with --privileged"


def _namespaces(runtime: Runtime | None) -> tuple[HostMechanism, ...]:
    lines = [
        HostMechanism(
            f"{name} namespace",
            available=Path(f"/proc/self/ns/{kind}").exists(),
            need="required",
            detail="a new one for each run",
            without="a run could see or touch the host's",
        )
        for name, kind in _NAMESPACES.items()
    ]
    known = runtime is not None and runtime.info.time_namespace and Path("/proc/self/ns/time").exists()
    lines.append(
        HostMechanism(
            "time namespace",
            available=known,
            need="stated",
            detail="a new one for each run" if known else "the runtime or the kernel does not know it",
            without="a run sees how long the host has been up",
            fix="" if known else "runc 1.2 or newer",
        )
    )
    return tuple(lines)


def _safe_paths() -> HostMechanism:
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    return HostMechanism(
        "openat2",
        available=release >= (5, 6),
        need="required",
        detail="paths in an image are resolved beneath it by the kernel",
        without="a link in an image could lead the worker to the host's files",
        fix="" if release >= (5, 6) else "Linux 5.6 or newer",
    )


def _no_new_privs() -> HostMechanism:
    return HostMechanism(
        "no_new_privs, capabilities, pivot_root",
        available="NoNewPrivs:" in _read("/proc/self/status"),
        need="required",
        detail="none for an image that runs as a user, seven for one that starts as root",
        without="set-user-ID programs in an image could gain rights",
    )


def _downgrades(runtime: Runtime | None) -> tuple[HostMechanism, ...]:
    if runtime is None:
        return ()
    cgroups = find_cgroups()
    missing = missing_isolation(runtime.info, cgroups)
    present = {
        "cgroup-limits": f"memory, cpu and pids, on cgroup v{cgroups.version}",
        "seccomp": "an allow list for each run",
    }
    return tuple(
        HostMechanism(
            name,
            available=name not in missing,
            need="downgrade",
            detail=missing.get(name, present[name]),
            without=cost,
            fix=_FIXES[name] if name in missing else "",
        )
        for name, cost in DOWNGRADES.items()
    )


def _swap() -> HostMechanism:
    swapping = len(_read("/proc/swaps").splitlines()) > 1
    held = swap_is_limited(find_cgroups()) or not swapping
    return HostMechanism(
        "swap limit",
        available=held,
        need="stated",
        detail="no run uses swap beside its memory" if held else "swap is on and unlimited",
        without="a run may use the host's swap beside its memory",
        fix="" if held else "boot with swapaccount=1, or turn swap off",
    )


def _disks_and_processors() -> tuple[HostMechanism, ...]:
    cgroups = find_cgroups()
    controllers = cgroups.controllers() if privileged() else frozenset()
    fix = "run the worker as root, on a host with the controller {}"
    io = "blkio" if cgroups.version == 1 else "io"
    late = "" if cgroups.version == 2 else "; not what the kernel writes later (cgroup version 1)"
    return (
        HostMechanism(
            "cpu set",
            available="cpuset" in controllers,
            need="stated",
            detail="runs can be kept to some processors"
            if "cpuset" in controllers
            else "no controller cpuset",
            without="--cpu-set is refused",
            fix=""
            if "cpuset" in controllers
            else "run the worker as root, on a host with the controller cpuset",
        ),
        HostMechanism(
            "block io",
            available=io in controllers,
            need="stated",
            detail=f"the rate of a disk can be held{late}" if io in controllers else f"no controller {io}",
            without="specs with io_bytes_per_second are refused",
            fix="" if io in controllers else fix.format(io),
        ),
    )


def _network() -> tuple[HostMechanism, ...]:
    tree = find_cgroups().unified
    no_fence = (
        "needs root"
        if not privileged()
        else "cgroup version 2 is not mounted"
        if tree is None
        else prove_fence()
    )
    no_way = why_no_egress() or prove_egress()
    return (
        HostMechanism(
            "network fence",
            available=no_fence is None,
            need="stated",
            detail=no_fence or "programs at the control group hold a run to its own network namespace",
            without="one layer less behind the network namespace; what a run tries to reach is not seen",
            fix="" if no_fence is None else "root, Linux 5.14 or newer, and cgroup version 2 mounted",
        ),
        HostMechanism(
            "egress, bandwidth",
            available=no_way is None,
            need="stated",
            detail=no_way or "runs can be given a network, with --allow-egress",
            without="run specs that ask for a network are refused; all others have none anyway",
            fix="" if no_way is None else "root, iproute2, nftables, and sysctl net.ipv4.ip_forward=1",
        ),
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _in_child(call: Callable[[], None]) -> str | None:
    """Why ``call`` fails in a forked child, or ``None``."""
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
