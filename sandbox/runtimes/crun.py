"""crun: the host's kernel; small and quick.

Version 1.8 does not know a host with both versions of control groups (``cgroups in hybrid mode not
supported``): there its calls get a mount namespace of their own, in which the one that limits nothing of a
run is not mounted.
"""

from __future__ import annotations

import re

from sandbox.runtimes.base import RuntimeFailure
from sandbox.runtimes.cgroups import find_cgroups
from sandbox.runtimes.holes import CRUN_HOLES
from sandbox.runtimes.isolation import privileged
from sandbox.runtimes.oci import Dialect
from sandbox.runtimes.runc import run_of


def without_unified() -> tuple[str, ...]:
    """A command that hides version 2 beside version 1 from what it is given to run.

    Raises:
        RuntimeFailure: a worker without root may not hide it.
    """
    cgroups = find_cgroups()
    if cgroups.version == 2 or cgroups.unified is None:
        return ()
    if not privileged():
        text = (
            "it does not know a host with both versions of control groups, and only root can hide one from it"
        )
        raise RuntimeFailure("create", text)
    hide = 'umount -- "$0" && exec "$@"'
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", hide, str(cgroups.unified))


CRUN = Dialect(
    name="crun",
    kernel="host",
    version=re.compile(r"^crun version (\S+)", re.MULTILINE),
    seccomp="+SECCOMP",
    time_namespace=None,
    holes=CRUN_HOLES,
    newest="crun 1.20 or newer",
    run_of=run_of,
    strength=lambda _: 2,
    flags=("--cgroup-manager=cgroupfs",),
    adds_profile=True,
    before=without_unified,
)
