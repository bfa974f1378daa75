"""Removing runs whose supervisor is gone: after a crash, and at the start of a worker."""

from __future__ import annotations

from contextlib import suppress

from sandbox.network.gateway import network_tables, remove_table
from sandbox.runtimes.base import Runtime, RuntimeFailure
from sandbox.runtimes.cgroups import find_cgroups, group_names, remove_group


def sweep(runtime: Runtime) -> tuple[str, ...]:
    """End and remove every run of the runtime's state folder; blocks. Returns the ids of what was found.

    Only for a worker that has no run of its own yet. What the runtime lists, what stands below our cgroup and
    what is left of a network are all taken: a crash can leave either alone.

    Raises:
        RuntimeFailure: something could not be removed.
    """
    found = {
        *runtime.list_runs(),
        *group_names(find_cgroups(), runtime.cgroup_parent),
        *network_tables(runtime.cgroup_parent),
    }
    for run_id in sorted(found):
        sweep_run(runtime, run_id)
    return tuple(sorted(found))


def forget(runtime: Runtime) -> None:
    """Remove the empty cgroups that runs stood in; for a worker that ends and has no run any more.

    What is above them stays: another worker's runtime may be about to make its own in there.
    """
    for folder in find_cgroups().folders(runtime.cgroup_parent):
        with suppress(OSError):
            folder.rmdir()


def sweep_run(runtime: Runtime, run_id: str) -> None:
    """End and remove one run, whatever is left of it; blocks.

    Raises:
        RuntimeFailure: something could not be removed.
    """
    path = f"{runtime.cgroup_parent}/{run_id}"
    cgroups = find_cgroups()
    # First the processes, so that the runtime finds a container that has ended.
    gone = remove_group(cgroups, path)
    runtime.delete(run_id)
    try:
        remove_table(runtime.cgroup_parent, run_id)
    except OSError as error:
        raise RuntimeFailure("sweep", f"the network of {run_id} could not be removed: {error}") from None
    if not gone and not remove_group(cgroups, path):
        raise RuntimeFailure("sweep", f"the control groups of {run_id} could not be removed")
