"""What was really applied to a run, read from the kernel, never from the configuration.

A mechanism that was promised and is not there ends the run; what is there stands in the run's record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from registry.contract.capabilities import GRANTABLE, KEPT
from registry.contract.isolation import why_not_isolated
from registry.contract.report import Mechanism
from sandbox.bundles.seccomp import ARGUMENT_CALLS, allowed_syscalls, opened_syscalls
from sandbox.errors import SandboxError
from sandbox.runtimes.watch import find_ending, read_status

_KERNEL_NAMES = {"network": "net", "mount": "mnt"}
_SETTLE_SECONDS = 5.0
_SECCOMP_FILTER = 2
T = TypeVar("T")
_CALLS = len(allowed_syscalls()) + len(ARGUMENT_CALLS)
_BITS = {**KEPT, **GRANTABLE}


def applied_at_start(document: Mapping[str, Any]) -> frozenset[str]:
    """The mechanisms that begin with the command, as far as the document has them."""
    names = {
        "seccomp": document["linux"].get("seccomp"),
        "AppArmor": document["process"].get("apparmorProfile"),
        "SELinux": document["process"].get("selinuxLabel"),
    }
    return frozenset(
        {"no_new_privs", "capabilities", "outer seccomp", *(name for name, there in names.items() if there)}
    )


def check_demand(
    mechanisms: Sequence[Mechanism], required: Sequence[str], *, coming: frozenset[str] = frozenset()
) -> None:
    """What the run spec demands was applied, or is still ``coming``.

    Raises:
        SandboxError: ``isolation-missing``: it was not.
    """
    lacking = why_not_isolated(mechanisms, set(required) - coming)
    if lacking is not None:
        raise SandboxError("isolation-missing", lacking)


def verify_namespaces(pid: int, names: Sequence[str], *, base: int, size: int) -> tuple[Mechanism, ...]:
    """Each namespace is not ours, and the run's root is ``base``.

    Raises:
        SandboxError: ``isolation-missing``.
    """
    require_namespaces(pid, names)
    for kind in ("uid_map", "gid_map"):
        if Path(f"/proc/{pid}/{kind}").read_text(encoding="ascii").split() != ["0", str(base), str(size)]:
            raise SandboxError("isolation-missing", f"the run's {kind} is not the one that was asked for")
    return (
        *(Mechanism(name=f"{name} namespace", applied=True) for name in names),
        Mechanism(name="own ids", applied=True, detail=f"{size} ids, none of them the worker's"),
    )


def require_namespaces(pid: int, names: Sequence[str]) -> None:
    """Each namespace of the process is not ours.

    Raises:
        SandboxError: ``isolation-missing``.
    """
    for name in names:
        kind = _KERNEL_NAMES.get(name, name)
        if os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}"):
            raise SandboxError("isolation-missing", f"the run has no {name} namespace of its own")


def verify_privileges(
    pid: int, held: Sequence[str], *, seccomp: bool, inherited: int
) -> tuple[Mechanism, ...]:
    """The command runs without new privileges, with at most ``held``, of which what it was given by name is
    there, and filtered: by the ``inherited`` number of lists, and with ``seccomp`` by one more that its
    runtime added.

    Also of a command that has ended already: it is not reaped before this.

    Raises:
        SandboxError: ``isolation-missing``.
    """
    wanted = inherited + 1 if seccomp else inherited
    status = settled_status(pid, wanted)
    names = [name.removeprefix("CAP_") for name in held]
    rights = 0
    for kind in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"):
        rights |= status.get(kind, -1)
    if status.get("NoNewPrivs") != 1:
        raise SandboxError("isolation-missing", "the run could gain privileges")
    if rights & ~_mask(names):
        raise SandboxError("isolation-missing", f"the run has capabilities beyond its own: {rights:#x}")
    if not _filtered(status, wanted):
        raise SandboxError("isolation-missing", "the run's system calls are not filtered")
    given = [name for name in names if name in GRANTABLE]
    # Only who has SETPCAP can have given it away by now.
    if _mask(given) & ~status["CapBnd"] and "SETPCAP" not in given:
        raise SandboxError("runtime-error", f"the runtime did not give the run {', '.join(given)}")
    calls = _CALLS + len(opened_syscalls(names))
    filtered = f"allow list of {calls} system calls" if seccomp else "allowed to be missing"
    return (
        Mechanism(name="no_new_privs", applied=True),
        Mechanism(
            name="capabilities", applied=True, detail=f"inside its own user namespace: {in_words(names)}"
        ),
        Mechanism(name="seccomp", applied=seccomp, detail=filtered),
    )


def in_words(names: Sequence[str]) -> str:
    """Capabilities of a run (without ``CAP_``), with those that its operator allowed set apart."""
    given = [name for name in names if name in GRANTABLE]
    words = ", ".join(name for name in names if name not in given) or "none"
    return f"{words}; allowed by the operator: {', '.join(given)}" if given else words


def _mask(names: Sequence[str]) -> int:
    return sum(1 << _BITS[name] for name in names)


def settled_status(pid: int, wanted: int) -> dict[str, int]:
    """The process's status, once it has the ``wanted`` number of filters or will not have them."""
    return settled(pid, lambda: read_status(pid), lambda status: _filtered(status, wanted))


def settled(pid: int, look: Callable[[], T], done: Callable[[T], bool]) -> T:
    """What is seen of a child that is about to execute the command: again and again until it is ``done``, or
    the child has ended, or it will not be."""
    # Between the runtime's "start" and the command the runtime's own code runs for a moment.
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        ended = find_ending(pid) is not None
        found = look()
        if ended or done(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.002)


def _filtered(status: dict[str, int], wanted: int) -> bool:
    # A kernel that does not count filters says only whether there is one; then none is inherited from us.
    filtered = status.get("Seccomp") == _SECCOMP_FILTER
    return status.get("Seccomp_filters", int(filtered)) >= wanted
