"""Opening a workplace: a state folder for one process alone, swept of what a killed one left."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from registry.errors import RequestInvalidError
from sandbox.attempt import Workplace
from sandbox.budget import Budget, Room
from sandbox.errors import SandboxError
from sandbox.images import rootfs
from sandbox.images.cache import Cache
from sandbox.images.collect import CacheLimits, collect, default_limits
from sandbox.network.permits import NetworkPolicy
from sandbox.runtimes import sweep as runs
from sandbox.runtimes.base import DOWNGRADES, Runtime, RuntimeFailure
from sandbox.runtimes.cgroups import find_cgroups, why_no_limits
from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.isolation import privileged
from sandbox.runtimes.parent import Ceiling, make_parent, with_defaults
from sandbox.runtimes.readings import format_cpu_set
from sandbox.runtimes.spawn import opened_supervisors


class InUseError(SandboxError):
    """The state folder is another process's."""


@contextmanager
def opened_workplace(
    state: Path,
    *,
    runtime: str,
    allowed_downgrades: frozenset[str],
    network: NetworkPolicy | None = None,
    allowed_capabilities: frozenset[str] = frozenset(),
    ceiling: Ceiling | None = None,
    cache: Path | None = None,
    cache_limits: Callable[[Cache], CacheLimits] = default_limits,
) -> Iterator[tuple[Workplace, tuple[str, ...]]]:
    """The workplace in ``state``, and a line for each thing that was swept. Blocking.

    ``network`` is what runs may reach, nothing where it is not given; ``allowed_capabilities`` what specs may
    ask for; ``ceiling`` what runs use together.
    ``cache`` is the folder of layers that it shares with others, one below ``state`` where it is not given;
    ``cache_limits`` says what that is held to.

    Raises:
        InUseError: the folder is another process's.
        SandboxError: ``worker-error``: the folder cannot be used; ``isolation-missing``: there is no
            runtime, or the ceiling cannot be had.
        RequestInvalidError: no downgrade has that name.
    """
    unknown = sorted(allowed_downgrades - set(DOWNGRADES))
    if unknown:
        raise RequestInvalidError(
            f"there is no downgrade {unknown[0][:40]!r}; known are {', '.join(DOWNGRADES)}"
        )
    state = Path(os.path.abspath(state))
    try:
        # Mapped users pass through; what only we may read has modes of its own below.
        state.mkdir(mode=0o711, parents=True, exist_ok=True)
        _require_own(state)
        (state / "runs").mkdir(mode=0o711, exist_ok=True)
        state.chmod(0o711)
        lock = os.open(state / "worker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SandboxError(
            "worker-error", f"the state folder {state} cannot be used: {error.strerror}"
        ) from None
    try:
        _require_passable(state)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(
                "worker-error", f"another worker uses {state}; give each its own --state folder"
            ) from None
        shared = Cache(Path(os.path.abspath(cache)) if cache else state / "cache")
        shared.open()
        found = find_runtime(
            state / "runtime", name=runtime, network=network is not None and bool(network.permits)
        )
        with ExitStack() as stack:
            stack.callback(runs.forget, found)
            kept_to = cache_limits(shared)
            swept = (*_sweep(state, found), *collect(shared, kept_to).left_over)
            limits = ceiling or Ceiling()
            together = with_defaults(limits, find_cgroups())
            _hold(found, limits, together)
            supervisors = stack.enter_context(opened_supervisors())
            budget = Budget(together.memory_bytes, together.pids, together.cpus)
            yield (
                Workplace(
                    state,
                    found,
                    supervisors,
                    shared,
                    kept_to,
                    allowed_downgrades,
                    network or NetworkPolicy(),
                    None if limits.cpu_set is None else format_cpu_set(limits.cpu_set),
                    Room(budget, partial(_free_bytes, state)),
                    allowed_capabilities,
                ),
                swept,
            )
    finally:
        os.close(lock)


def _require_own(state: Path) -> None:
    """Nothing is changed in a folder that others could exchange runs in, or that holds what is not ours: a
    worker sweeps its folder."""
    found = state.stat()
    if found.st_uid != os.geteuid():
        why = "belongs to somebody else"
    elif found.st_mode & stat.S_IWOTH and any(state.iterdir()):
        # An empty one is a volume that was made for us, and is closed.
        why = "can be written to by everybody, and something is there"
    elif (state / "uploads").exists():
        why = "holds the data of a registry"
    else:
        return
    raise SandboxError("worker-error", f"{state} {why}: give the worker a folder of its own for its state")


def _require_passable(state: Path) -> None:
    for folder in (state, *state.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise SandboxError(
                "worker-error",
                f"{folder} is closed to others, and the users of images must pass through it: "
                f"run 'chmod o+x {folder}', or choose another folder for its state",
            )


def _free_bytes(state: Path) -> int | None:
    try:
        disk = os.statvfs(state)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def _hold(runtime: Runtime, asked: Ceiling, ceiling: Ceiling) -> None:
    cgroups = find_cgroups()
    why = why_no_limits(cgroups, privileged=privileged())
    if why is None:
        try:
            make_parent(cgroups, runtime.cgroup_parent, ceiling)
        except SandboxError as error:
            why = error.message
    if why is not None and asked != Ceiling():
        raise SandboxError("isolation-missing", f"there can be no ceiling for all runs: {why}")
    # Nobody asked for one: whether a run may go without any limit is decided, and said, for each run.


def _sweep(state: Path, runtime: Runtime) -> tuple[str, ...]:
    try:
        ended = runs.sweep(runtime)
    except RuntimeFailure as error:
        raise SandboxError(
            "runtime-error", f"what an earlier worker left cannot be removed: {error}"
        ) from None
    return (*(f"ended the run {run_id}" for run_id in ended), *rootfs.sweep(state))
