"""runc: the host's kernel, all eight namespaces from 1.2 on."""

from __future__ import annotations

import re

from sandbox.runtimes.holes import RUNC_HOLES, RUNC_MOUNTS, may_have
from sandbox.runtimes.oci import Dialect


def run_of(entry: str) -> str:
    """One folder for each container, named as it; what begins with a dot is our own."""
    return "" if entry.startswith(".") else entry


def strength(version: str | None) -> int:
    """Before crun with the fixes of 2025, after it without: a name for the mounts of a run could lead out."""
    return 1 if version is not None and may_have(RUNC_MOUNTS, version) else 3


RUNC = Dialect(
    name="runc",
    kernel="host",
    version=re.compile(r"^runc version (\S+)", re.MULTILINE),
    seccomp="libseccomp:",
    time_namespace=(1, 2, 0),
    holes=RUNC_HOLES,
    newest="runc 1.3.6, 1.4.3, 1.5.0 or newer",
    run_of=run_of,
    strength=strength,
)
