"""The SELinux domain of runs: whether it is installed here, and whether a process is in it.

``selinuxfs`` and ``proc`` are where the kernel says so; tests give folders of their own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

MODULE = "seatrial-run"
SELINUXFS = Path("/sys/fs/selinux")
_TYPE, _FILE_TYPE = "seatrial_run_t", "seatrial_run_file_t"
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Labels:
    """What a run's process and its files are labelled with."""

    process: str
    files: str


def module_text() -> str:
    """The domain as it is shipped, in CIL."""
    return files("sandbox.lsm").joinpath(f"{MODULE}.cil").read_text(encoding="utf-8")


def selinux_active(*, selinuxfs: Path = SELINUXFS) -> bool:
    """Whether the kernel runs with SELinux."""
    return (selinuxfs / "enforce").exists()


def selinux_enforcing(*, selinuxfs: Path = SELINUXFS) -> bool:
    """Whether it refuses, rather than only note."""
    try:
        return (selinuxfs / "enforce").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def run_labels(*, selinuxfs: Path = SELINUXFS, proc: Path = _PROC) -> Labels | None:
    """The labels for runs of this process, or ``None`` where the kernel's policy does not know them.

    User and role are our own: a policy lets few programs change those.
    """
    if not selinux_active(selinuxfs=selinuxfs):
        return None
    own = label_of(os.getpid(), proc=proc).split(":")
    if len(own) < 3:
        return None
    labels = Labels(f"{own[0]}:{own[1]}:{_TYPE}:s0", f"{own[0]}:object_r:{_FILE_TYPE}:s0")
    return labels if all(_known(one, selinuxfs) for one in (labels.process, labels.files)) else None


def why_no_label(*, selinuxfs: Path = SELINUXFS, proc: Path = _PROC) -> str | None:
    """Why runs go without the label here, or ``None``."""
    if not selinux_active(selinuxfs=selinuxfs):
        return "not active on this host"
    if run_labels(selinuxfs=selinuxfs, proc=proc) is None:
        return f"active, but its policy has no {_TYPE} (seatrial doctor --fix installs the module {MODULE})"
    return None


def label_of(pid: int, *, proc: Path = _PROC) -> str:
    """The label of the process; empty where the kernel says nothing."""
    try:
        return (proc / str(pid) / "attr/current").read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _known(label: str, selinuxfs: Path) -> bool:
    # The kernel takes only what its policy knows.
    try:
        with (selinuxfs / "context").open("r+b", buffering=0) as file:
            file.write(label.encode())
    except OSError:
        return False
    return True
