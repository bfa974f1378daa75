"""A quick look at a runtime that was found: can it make, start and remove a container on this host?"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sandbox.bundles.config import NAMESPACES, OCI_VERSION
from sandbox.errors import SandboxError
from sandbox.ids import IdRange, leased_ids
from sandbox.program import MACHINES, Step, make_program
from sandbox.runtimes.base import Runtime, RuntimeFailure
from sandbox.runtimes.cgroups import find_cgroups, remove_group
from sandbox.runtimes.isolation import may_divide, missing_isolation
from sandbox.runtimes.sweep import forget

_MEMORY_BYTES, _PIDS = 256 * 1024 * 1024, 256


def why_not_here(runtime: Runtime) -> str | None:
    """Why the runtime carries out nothing here, or ``None``. Blocks for some ten milliseconds.

    Where there is no program of ours for this machine, nothing is known against the runtime.
    """
    if os.uname().machine not in MACHINES:
        return None
    try:
        # Not below the state folder: the run's own root must get there, and that is closed.
        with (
            _undisturbed(),
            tempfile.TemporaryDirectory(prefix="seatrial-look-") as name,
            leased_ids() as ids,
        ):
            return _try(runtime, Path(name), ids)
    except SandboxError as error:
        return error.message
    except OSError as error:
        return f"it cannot be tried: {error.strerror}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hear of what ends this process when the block is left: a worker looks before it handles such itself,
    and folder and container would stay."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _try(runtime: Runtime, folder: Path, ids: IdRange) -> str | None:
    folder.chmod(0o711)
    root = folder / "root"
    root.mkdir()
    (root / "exit").write_bytes(make_program([Step("end", "exit")], os.uname().machine))
    (root / "exit").chmod(0o755)
    for name in ("dev", "proc", "sys"):
        (root / name).mkdir()
    for path in (root, *root.iterdir()):
        os.chown(path, ids.base, ids.base)
    run_id = f"look-{os.getpid()}"
    group, cgroups = f"{runtime.cgroup_parent}/{run_id}", find_cgroups()
    limited = "cgroup-limits" not in missing_isolation(runtime.info, cgroups)
    named = f"{cgroups.prefix}{group}" if may_divide(cgroups) else None
    document = _document(root, ids, named, limited=limited)
    (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    pid = 0
    try:
        pid = runtime.create(run_id, folder, log_fd=null, pid_file=folder / "pid")
        runtime.start(run_id)
    except RuntimeFailure as failure:
        return f"{failure.call}: {failure.text}".replace(str(folder), "…")[:300]
    finally:
        os.close(null)
        with suppress(RuntimeFailure):
            runtime.delete(run_id)
        if pid:
            # Ours only where this process is the first of its namespace.
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        remove_group(cgroups, group)
        forget(runtime)
    return None


def _document(root: Path, ids: IdRange, group: str | None, *, limited: bool) -> dict[str, Any]:
    mapping = [{"containerID": 0, "hostID": ids.base, "size": ids.size}]
    linux: dict[str, Any] = {
        "namespaces": [{"type": name} for name in NAMESPACES],
        "uidMappings": mapping,
        "gidMappings": mapping,
    }
    if group is not None:
        linux["cgroupsPath"] = group
    if limited:
        linux["resources"] = {"memory": {"limit": _MEMORY_BYTES}, "pids": {"limit": _PIDS}}
    return {
        "ociVersion": OCI_VERSION,
        "root": {"path": str(root), "readonly": True},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/exit"],
            "cwd": "/",
            "noNewPrivileges": True,
            "oomScoreAdj": max(500, int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))),
        },
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": linux,
    }
