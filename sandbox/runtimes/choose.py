"""Which runtime carries out the runs of a worker."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from sandbox.errors import SandboxError
from sandbox.runtimes.base import Runtime, RuntimeFailure, RuntimeInfo
from sandbox.runtimes.crun import CRUN
from sandbox.runtimes.isolation import privileged
from sandbox.runtimes.look import why_not_here
from sandbox.runtimes.oci import SEARCH, Dialect, OciRuntime, inspect_program
from sandbox.runtimes.runc import RUNC
from sandbox.runtimes.runsc import RUNSC

_DIALECTS: Mapping[str, Dialect] = MappingProxyType({one.name: one for one in (CRUN, RUNC, RUNSC)})
RUNTIMES = tuple(_DIALECTS)
"""Names of those that there is a driver for."""


def find_runtime(state: Path, *, name: str = "auto", network: bool = False) -> Runtime:
    """The runtime to carry out runs with: ``auto``, the strongest of those that are there and work here, or
    one by name. Programs are found on PATH, or where systems keep those for root.

    ``state`` is the worker's own folder for runtime state, absolute. With ``network`` runs may be given one:
    then ``auto`` takes no runtime that cannot connect them.

    Raises:
        SandboxError: ``isolation-missing``: it is not there, does not work, or there is no driver for it.
    """
    if name == "auto":
        return _strongest(state, network=network)
    if name not in _DIALECTS:
        raise SandboxError(
            "isolation-missing",
            f"there is no driver for the runtime {name[:40]!r}; use auto, {', '.join(RUNTIMES)}",
        )
    found = _find(_DIALECTS[name])
    if isinstance(found, str):
        raise SandboxError("isolation-missing", found)
    return open_runtime(found, state)


def open_runtime(info: RuntimeInfo, state: Path) -> Runtime:
    """The runtime that was found before, with the state folder ``state``."""
    return OciRuntime(info, _DIALECTS[info.name], state)


def newest(info: RuntimeInfo) -> str:
    """Which of its versions have no published hole that images can use."""
    return _DIALECTS[info.name].newest


def _strongest(state: Path, *, network: bool) -> Runtime:
    candidates = [(dialect, _find(dialect)) for dialect in _DIALECTS.values()]
    there = [(dialect, info) for dialect, info in candidates if isinstance(info, RuntimeInfo)]
    there.sort(key=lambda one: one[0].strength(one[1].version), reverse=True)
    against = {d.name: found for d, found in candidates if isinstance(found, str)}
    if network:
        alone = [info for dialect, info in there if dialect.kernel == "own"]
        against |= {
            info.name: f"{info} connects its runs to no network, and some are permitted" for info in alone
        }
        there = [one for one in there if one[0].kernel != "own"]
    for dialect, info in there:
        runtime = open_runtime(info, state)
        # Where there is no other left, its own errors tell more than a look.
        why = None if info is there[-1][1] else why_not_here(runtime)
        if why is not None:
            against[dialect.name] = f"{info} does not work here: {why}"
            continue
        others = [one for one in there if one[0] is not dialect]
        rather = _stronger(dialect.strength(info.version), against, others)
        return open_runtime(replace(info, passed_over=rather), state)
    raise SandboxError("isolation-missing", f"there is no container runtime: {'; '.join(against.values())}")


def _stronger(
    strength: int, against: Mapping[str, str], there: Sequence[tuple[Dialect, RuntimeInfo]]
) -> tuple[str, ...]:
    """What would isolate more, strongest first, and why it is not used: not there, not working, too old."""
    old = {
        dialect.name: f"{info} is too old: {dialect.newest}"
        for dialect, info in there
        if dialect.strength(info.version) <= strength
    }
    ranked = sorted(_DIALECTS.values(), key=lambda dialect: dialect.strength(None), reverse=True)
    reasons = {**old, **against}
    return tuple(reasons[d.name] for d in ranked if d.strength(None) > strength and d.name in reasons)


def _find(dialect: Dialect) -> RuntimeInfo | str:
    """What is known of it, or why there is nothing to know."""
    found = shutil.which(dialect.name) or shutil.which(dialect.name, path=SEARCH)
    if found is None:
        return f"{dialect.name} is not on PATH"
    if dialect.root_only and not privileged():
        return f"{dialect.name} needs a worker with root: without, {dialect.root_only}"
    try:
        return inspect_program(dialect, Path(found))
    except RuntimeFailure as failure:
        return failure.text
