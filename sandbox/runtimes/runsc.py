"""runsc (gVisor): a kernel of its own in user space; what a run calls is answered there.

What a run reads and writes goes through a process (the gofer) that has nothing but the run's root.
"""

from __future__ import annotations

import re

from sandbox.runtimes.holes import RUNSC_HOLES
from sandbox.runtimes.oci import Dialect

_ENTRY = re.compile(r"([a-z0-9-]+)_sandbox:[a-z0-9-]+\.(?:state|lock)|runsc-([a-z0-9-]+)\.sock")


def run_of(entry: str) -> str:
    """A state file and its lock for each container, and the socket of its kernel."""
    match = _ENTRY.fullmatch(entry)
    return (match[1] or match[2]) if match else ""


RUNSC = Dialect(
    name="runsc",
    kernel="own",
    version=re.compile(r"^runsc version (?:release-|v0\.0\.0-)?(\S+)", re.MULTILINE),
    seccomp="",
    time_namespace=None,
    holes=RUNSC_HOLES,
    newest="runsc release-20250401.0 or newer",
    run_of=run_of,
    strength=lambda _: 4,
    root_only="it makes control groups where it may not, and a network that such a worker cannot enter",
    flags=(
        "--platform=systrap",
        # Else the run's list of system calls would be passed over.
        "--oci-seccomp",
        # The root of a run is a writable layer already, of a fixed size.
        "--overlay2=none",
        # Its own: sockets of the run are none of the host's.
        "--network=sandbox",
        # Its process then has no file of the host, no capability and no id but nobody's.
        "--directfs=false",
        # The shared one would stay mounted in the state folder.
        "--gofer-network-namespace=new",
    ),
)
