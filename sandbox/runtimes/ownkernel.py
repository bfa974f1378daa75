"""What was applied to a run with a kernel of its own (gVisor), as far as the host's kernel shows it.

What the command of such a run is allowed is answered inside, where the host cannot look. What can be read is
how that kernel itself is held: one process without rights, which is all that stands for the run here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from registry.contract.report import Mechanism
from sandbox.errors import SandboxError
from sandbox.runtimes.verify import in_words, require_namespaces, settled_status
from sandbox.runtimes.watch import children_of

_NOBODY = 65534
_STARTING_MOUNTS = {"/", "/proc", "/proc/sandbox-proc"}


def spare_pids(pids: int) -> int:
    """What the kernel of a run with at most ``pids`` processes needs of the host's, beside theirs.

    Measured: 24 and two for each. It holds the run to its own number by RLIMIT_NPROC and answers EAGAIN; at
    the host's number the whole of it would end.
    """
    return 64 + 2 * pids


def verify_kernel_process(pid: int, names: Sequence[str], *, base: int, size: int) -> tuple[Mechanism, ...]:
    """The kernel's process is in namespaces of its own and nobody; files are those of the run's ids.

    Raises:
        SandboxError: ``isolation-missing``.
    """
    made = [name for name in names if name != "cgroup"]
    require_namespaces(pid, made)
    if _map(pid) != [str(_NOBODY), str(_NOBODY), "1"]:
        raise SandboxError("isolation-missing", "the run's own kernel has more than nobody's id")
    opener = [child for child in children_of(os.getpid()) if _owner(child) == base]
    if not opener or any(_map(child) != ["0", str(base), str(size)] for child in opener):
        raise SandboxError("isolation-missing", "the run's files are not opened under its own ids")
    inside = "own kernel: that of its process, which the run cannot see"
    return (
        *(Mechanism(name=f"{name} namespace", applied=True, detail=inside) for name in made),
        Mechanism(
            name="cgroup namespace",
            applied=False,
            detail="own kernel: its process stays in the host's; the run sees groups of that kernel alone",
        ),
        Mechanism(
            name="own ids",
            applied=True,
            detail=f"own kernel: its process is nobody, with that one id; files are opened by another, with "
            f"{size} ids, none of them the worker's",
        ),
    )


def verify_kernel_root(pid: int, *, started: bool) -> str:
    """What the mount namespace of the kernel's process shows it, in words.

    Raises:
        SandboxError: ``isolation-missing``: more than a root in memory that nothing can be written to.
    """
    mounts = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    points = {line.split()[4] for line in mounts}
    fields = mounts[0].split() if mounts else ()
    if (
        not points <= ({"/"} if started else _STARTING_MOUNTS)
        or not fields
        or "ro" not in fields[5].split(",")
        or fields[fields.index("-") + 1] != "tmpfs"
    ):
        raise SandboxError("isolation-missing", "the kernel of the run sees more than a root in memory")
    return "own kernel: its process sees nothing but a read-only root in memory"


def verify_kernel_privileges(
    pid: int, held: Sequence[str], *, seccomp: bool, inherited: int
) -> tuple[Mechanism, ...]:
    """The kernel's process has no right, cannot gain one, and its own calls are filtered: by the
    ``inherited`` number of lists and the one that it gives itself.

    Raises:
        SandboxError: ``isolation-missing``.
    """
    status = settled_status(pid, inherited + 1)
    if status.get("NoNewPrivs") != 1:
        raise SandboxError("isolation-missing", "the run's own kernel could gain privileges")
    if status.get("CapBnd", -1) | status.get("CapEff", -1) | status.get("CapPrm", -1):
        raise SandboxError("isolation-missing", "the run's own kernel has capabilities")
    if status.get("Seccomp_filters", 0) < inherited + 1:
        raise SandboxError("isolation-missing", "the calls of the run's own kernel are not filtered")
    short = in_words([name.removeprefix("CAP_") for name in held])
    own = "and the run's list inside, which the host cannot read" if seccomp else "none inside"
    return (
        Mechanism(name="no_new_privs", applied=True, detail="own kernel: of its process"),
        Mechanism(
            name="capabilities",
            applied=True,
            detail=f"own kernel: its process has none; what the run has counts inside alone: {short}",
        ),
        Mechanism(
            name="seccomp",
            applied=True,
            detail=f"own kernel: its process is held to gVisor's list of host calls; {own}",
        ),
    )


def _map(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/uid_map").read_text(encoding="ascii").split()


def _owner(pid: int) -> int:
    return os.stat(f"/proc/{pid}").st_uid
