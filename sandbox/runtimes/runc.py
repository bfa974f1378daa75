"""runc: the host's kernel, all eight namespaces from 1.2 on."""

from __future__ import annotations

import re

from sandbox.runtimes.holes import RUNC_HOLES
from sandbox.runtimes.oci import Dialect


def run_of(entry: str) -> str:
    """One folder for each container, named as it; what begins with a dot is our own."""
    return "" if entry.startswith(".") else entry


RUNC = Dialect(
    name="runc",
    kernel="host",
    version=re.compile(r"^runc version (\S+)", re.MULTILINE),
    seccomp="libseccomp:",
    time_namespace=(1, 2, 0),
    holes=RUNC_HOLES,
    package="runc 1.3.6, 1.4.3, 1.5.0 or newer",
    run_of=run_of,
)
