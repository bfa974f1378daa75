"""What of AppArmor and SELinux a run got, read from the kernel; stated where the host has none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.contract.report import Mechanism
from sandbox.errors import SandboxError
from sandbox.lsm.apparmor import SECURITY, loaded_profiles, profiles_of, why_no_profile
from sandbox.lsm.selinux import label_of, selinux_enforcing, why_no_label
from sandbox.runtimes.verify import settled

_REFUSALS = (
    (
        r"apparmor profile|thread-self/attr/(apparmor/)?exec",
        "the AppArmor profile of runs is not loaded any more; seatrial doctor --fix loads it",
    ),
    (
        r"selinux label is specified in config, but selinux is disabled",
        "the runtime was built without SELinux, or it was turned off",
    ),
    (
        r"attr/keycreate|attr/exec: invalid argument",
        "the SELinux policy does not know the label of runs any more; seatrial doctor --fix installs it",
    ),
)


def verify_modules(pid: int, document: Mapping[str, Any]) -> tuple[Mechanism, ...]:
    """The command is under the profile and the label that its document names.

    Raises:
        SandboxError: ``isolation-missing``: the document names one, and the kernel shows another.
    """
    return (_apparmor(pid, document), _selinux(pid, document))


def module_refusal(text: str) -> str | None:
    """What a failed call of a runtime says about AppArmor or SELinux, in words; ``None``: nothing."""
    for pattern, reason in _REFUSALS:
        if re.search(pattern, text):
            return reason
    return None


def _apparmor(pid: int, document: Mapping[str, Any]) -> Mechanism:
    wanted = document["process"].get("apparmorProfile")
    if wanted is None:
        return Mechanism(
            name="AppArmor", applied=False, detail=why_no_profile() or "the runtime applies none"
        )
    names, mode = settled(pid, lambda: profiles_of(pid), lambda found: wanted in found[0])
    return profile_line(wanted, names, mode)


def profile_line(wanted: str, names: Sequence[str], mode: str, *, security: Path = SECURITY) -> Mechanism:
    """What a process under ``names`` has of the profile ``wanted``, by itself or beside others.

    crun adds it to what it is under itself: Ubuntu has profiles for runtimes, and we have one for workers.

    Raises:
        SandboxError: ``isolation-missing``: it is not under it.
    """
    if wanted not in names:
        raise SandboxError("isolation-missing", f"the run is not under the AppArmor profile {wanted}")
    if mode == "mixed":
        mode = loaded_profiles(security=security).get(wanted, "unknown")
    if mode != "enforce":
        return Mechanism(name="AppArmor", applied=False, detail=f"{wanted} is loaded in the mode {mode}")
    beside = [name for name in names if name != wanted]
    detail = f"{wanted} ({mode})" + (f", beside {', '.join(beside)}" if beside else "")
    return Mechanism(name="AppArmor", applied=True, detail=detail)


def _selinux(pid: int, document: Mapping[str, Any]) -> Mechanism:
    wanted = document["process"].get("selinuxLabel")
    if wanted is None:
        why = why_no_label() or "the runtime applies none"
        return Mechanism(name="SELinux", applied=False, detail=why)
    if settled(pid, lambda: label_of(pid), lambda found: found == wanted) != wanted:
        raise SandboxError("isolation-missing", f"the run is not in the SELinux domain {wanted}")
    if not selinux_enforcing():
        return Mechanism(name="SELinux", applied=False, detail=f"{wanted}, but the host is permissive")
    return Mechanism(name="SELinux", applied=True, detail=wanted)
