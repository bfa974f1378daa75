"""Which runtime carries out the runs of a worker."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from sandbox.errors import SandboxError
from sandbox.runtimes.base import Runtime, RuntimeFailure, RuntimeInfo
from sandbox.runtimes.oci import SEARCH, Dialect, OciRuntime, inspect_program
from sandbox.runtimes.runc import RUNC

_DIALECTS: Mapping[str, Dialect] = MappingProxyType({one.name: one for one in (RUNC,)})


def find_runtime(state: Path, *, name: str = "auto") -> Runtime:
    """The runtime to carry out runs with: ``auto``, or one by name, found on PATH or where systems keep
    programs for root.

    ``state`` is the worker's own folder for runtime state, absolute.

    Raises:
        SandboxError: ``isolation-missing``: it is not there, does not work, or there is no driver for it.
    """
    if name not in ("auto", *_DIALECTS):
        known = ", ".join(_DIALECTS)
        raise SandboxError(
            "isolation-missing", f"there is no driver for the runtime {name[:40]!r}; use {known}"
        )
    dialect = RUNC
    found = shutil.which(dialect.name) or shutil.which(dialect.name, path=SEARCH)
    if found is None:
        raise SandboxError("isolation-missing", "there is no container runtime: runc is not on PATH")
    try:
        info = inspect_program(dialect, Path(found))
    except RuntimeFailure as failure:
        raise SandboxError("isolation-missing", failure.text) from None
    return open_runtime(info, state)


def open_runtime(info: RuntimeInfo, state: Path) -> Runtime:
    """The runtime that was found before, with the state folder ``state``."""
    return OciRuntime(info, _DIALECTS[info.name], state)
