"""What this host can isolate, mechanism by mechanism (MISSION.md S1 to S10)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox.bundles.rootfs import open_rootfs
from sandbox.errors import SandboxError
from sandbox.hostlines import HostMechanism, around, in_child, network, security_modules
from sandbox.packages import RELEASE, how_to_install
from sandbox.proofs import Proof
from sandbox.rootless import why_not_rootless
from sandbox.runtimes.base import DOWNGRADES, DowngradeName, Runtime
from sandbox.runtimes.cgroups import find_cgroups, swap_is_limited
from sandbox.runtimes.choose import find_runtime, newest
from sandbox.runtimes.isolation import may_divide, missing_isolation, privileged
from sandbox.syscalls import CLONE_NEWUSER, unshare

_NAMESPACES = {"mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}
_RUNSC = "gVisor's own packages: https://gvisor.dev/docs/user_guide/install"
_NAMES: Mapping[DowngradeName, str] = {"cgroup-limits": "cgroup limits", "seccomp": "seccomp"}
_FIXES: Mapping[DowngradeName, str] = {
    "cgroup-limits": "run the worker as root, with the cgroup controllers memory, cpu and pids; or, on "
    "cgroup version 2, in a group of its own: systemd-run --user --scope --property Delegate=yes COMMAND",
    "seccomp": "a runc that is built with libseccomp, on a kernel with CONFIG_SECCOMP_FILTER",
}


@dataclass(frozen=True, slots=True)
class HostReport:
    """Every mechanism, in the order in which it is shown."""

    mechanisms: tuple[HostMechanism, ...]
    runtime: str = "auto"
    """The name of the one that was found."""

    @property
    def exit_code(self) -> int:
        """0: everything promised; 1: something must be allowed as a downgrade; 2: nothing can be run."""
        missing = {one.need for one in self.mechanisms if not one.holds}
        return 2 if "required" in missing else 1 if "downgrade" in missing else 0

    def proven(self, found: Mapping[str, Proof]) -> HostReport:
        """With what the self-test's run showed of each."""
        lines = tuple(_proven(one, found.get(one.name)) for one in self.mechanisms)
        return replace(self, mechanisms=lines)


@dataclass(frozen=True, slots=True)
class HostDescription:
    """What was looked at."""

    kernel: str
    machine: str
    system: str
    """The distribution, with its version."""
    user: str
    """``root`` of the host, ``plain user``, or root of a user namespace that somebody else made."""
    cgroup_version: int
    hybrid: bool
    """Whether version 2 of control groups is mounted beside version 1."""


def describe_host() -> HostDescription:
    """What is looked at, without names of machines and people."""
    cgroups = find_cgroups()
    said = dict(line.split("=", 1) for line in _read(str(RELEASE)).splitlines() if "=" in line)
    inside = "root inside a user namespace" if os.geteuid() == 0 else "plain user"
    return HostDescription(
        kernel=os.uname().release,
        machine=os.uname().machine,
        system=said.get("PRETTY_NAME", "unknown").strip('"'),
        user="root" if privileged() else inside,
        cgroup_version=cgroups.version,
        hybrid=cgroups.version == 1 and cgroups.unified is not None,
    )


def inspect_host(state: Path, *, runtime: str, outside: str | None) -> HostReport:
    """Look at everything that can be seen without running anything.

    ``state`` is where a runtime would keep its state; ``outside`` says why a plain user's process could not
    enter a user namespace of its own, if so. The calling process has no threads: it is forked.
    """
    found: Runtime | None = None
    try:
        found = find_runtime(state, name=runtime)
        info = found.info
        rather = f"; passed over: {'; '.join(info.passed_over)}" if info.passed_over else ""
        line = HostMechanism("runtime", available=True, need="required", detail=f"{info}{rather}")
    except SandboxError as error:
        line = HostMechanism(
            "runtime",
            available=False,
            need="required",
            detail=error.message,
            without="nothing can be run",
            fix=_how(runtime),
        )
    return HostReport(
        (
            line,
            *_known_holes(found),
            _user_namespace(outside),
            _own_ids(),
            *_namespaces(found),
            _safe_paths(),
            *_privileges(),
            *_downgrades(found),
            _swap(),
            *_disks_and_processors(),
            *network(),
            *around(found),
            *security_modules(),
        ),
        runtime if found is None else found.info.name,
    )


def _how(runtime: str) -> str:
    if runtime == "runsc":
        return _RUNSC if privileged() else f"run the worker as root; {_RUNSC}"
    return how_to_install("crun" if runtime == "crun" else "runc")


def _proven(line: HostMechanism, proof: Proof | None) -> HostMechanism:
    if proof is None or (not line.available and not proof.applied):
        return line
    if not proof.applied and line.need == "stated":
        # Nothing was promised: the runtime of these runs has it in another way, or has none.
        return replace(line, available=False, applied=False, detail=proof.seen or line.detail)
    # What a run had is here, whatever was thought before it.
    available = line.available or proof.applied
    return replace(line, available=available, applied=proof.applied, proven=proof.proven, seen=proof.seen)


def _known_holes(runtime: Runtime | None) -> tuple[HostMechanism, ...]:
    if runtime is None:
        return ()
    holes = runtime.info.known_holes
    detail = f"{runtime.info} has no published hole that images can use"
    if holes:
        names = ", ".join(one.partition(" (")[0] for one in holes)
        detail = f"{runtime.info} may have {names}, by its version; a check of ours closes each"
    return (
        HostMechanism(
            "checks for known holes",
            available=True,
            need="stated",
            detail=detail,
            without="an image could use a hole of the runtime",
            fix=f"{newest(runtime.info)} has none of them" if holes else "",
        ),
    )


def _own_ids() -> HostMechanism:
    return HostMechanism(
        "own ids",
        available=True,
        need="required",
        detail="a range of user ids for each run, that nobody else has",
        without="a run would have the ids of another, or of the host's users",
    )


def _user_namespace(outside: str | None) -> HostMechanism:
    why, fix = outside, ""
    if why is None:
        why = in_child(lambda: unshare(CLONE_NEWUSER))
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
        return "sysctl --write user.max_user_namespaces=15000 (seatrial doctor --fix)"
    plain = os.geteuid() != 0
    if plain and _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "sysctl --write kernel.unprivileged_userns_clone=1 (seatrial doctor --fix --for USER)"
    if plain and _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "an AppArmor profile with 'userns,' for this program (seatrial doctor --fix --for USER)"
    if plain and (why := why_not_rootless()) is not None:
        return f"{why} (seatrial doctor --fix --for USER)"
    return "run the worker outside of a container, or in one with --privileged"


def _namespaces(runtime: Runtime | None) -> tuple[HostMechanism, ...]:
    # A runtime with a kernel of its own shows a run that kernel's groups, not the host's.
    own = runtime is not None and runtime.info.kernel == "own"
    lines = [
        HostMechanism(
            f"{name} namespace",
            available=Path(f"/proc/self/ns/{kind}").exists(),
            need="stated" if own and name == "cgroup" else "required",
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
            without="a run has the host's clocks",
            fix="" if known else "runc 1.2 or newer, on Linux 5.6 or newer",
        )
    )
    lines.append(
        HostMechanism(
            "time offset",
            available=known,
            need="stated",
            detail="the clocks of a run begin near zero" if known else "needs the time namespace",
            without="a run sees how long the host has been up",
        )
    )
    return tuple(lines)


def _safe_paths() -> HostMechanism:
    name, without = "openat2", "a link in an image could lead the worker to the host's files"
    try:
        # A link that leads out of the folder; the kernel must say that it is one.
        with open_rootfs(Path(f"/proc/{os.getpid()}")) as folder:
            refused = folder.kind("/root/etc") == "link"
    except (OSError, SandboxError):
        refused = False
    return HostMechanism(
        name,
        available=refused,
        need="required",
        detail="paths in an image are resolved beneath it by the kernel",
        without=without,
        fix="" if refused else "Linux 5.6 or newer",
        proven=refused,
        seen="a link that leads out of its folder was not followed" if refused else "",
    )


def _privileges() -> tuple[HostMechanism, ...]:
    known = "NoNewPrivs:" in _read("/proc/self/status")
    return (
        HostMechanism(
            "no_new_privs",
            available=known,
            need="required",
            detail="no program in an image gains rights by being executed",
            without="set-user-ID programs in an image could gain rights",
            fix="" if known else "Linux 4.10 or newer",
        ),
        HostMechanism(
            "capabilities",
            available=True,
            need="required",
            detail="none for an image that runs as a user, seven for one that starts as root",
            without="a run could mount, trace and configure networks in its namespaces",
        ),
        HostMechanism(
            "pivot_root",
            available=True,
            need="required",
            detail="the image is all that a run's mounts begin at",
            without="a way back to the host's files",
        ),
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
            _NAMES[name],
            available=name not in missing,
            need="downgrade",
            detail=missing.get(name, present[name]),
            without=cost,
            fix=_FIXES[name] if name in missing else "",
            downgrade=name,
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
    controllers = cgroups.controllers() if may_divide(cgroups) else frozenset()
    fix = "run the worker as root, on a host with the controller {}"
    io = cgroups.block_io
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
            fix="" if "cpuset" in controllers else fix.format("cpuset"),
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


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
