"""The program that scans one layer. It starts with the worker's rights, loads the modules, gives everything
up, and only then reads the layer.

Started as a process of its own with one JSON argument (:class:`Task`), the layer as standard input, the file
for its result as standard output, and a file without a name for what does not fit in memory. It imports
nothing once it is confined, and nothing of the worker's.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sandbox import syscalls as kernel
from sandbox.images import confine
from sandbox.images.layerstream import LayerReader
from sandbox.scanners.content.engine import Rules
from sandbox.scanners.facts import NAMED, Alias, Module
from sandbox.scanners.loading import load_modules
from sandbox.scanners.spool import Spool
from sandbox.scanners.walk import KEPT_MAX_BYTES, Walk, WalkLimits

ADDRESS_SPACE_BYTES = 768 * 1024 * 1024
CANNOT_CONFINE = 3
_LAYER_FD, _RESULT_FD = 0, 1
_HEADER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Task:
    """``base`` and ``size`` are the ids of the child; ``packages`` hold the modules; of the spool the first
    ``rules_bytes`` are the compiled rules of the content search (none: it does not search) with the digest
    ``rules``; ``max_bytes`` is what the layer may unpack to. With ``aliases`` only what lies at one of them
    is looked at, by the modules that look for files by their names."""

    parent_pid: int
    base: int
    size: int
    algorithm: str
    packages: tuple[str, ...]
    rules: str
    rules_bytes: int
    spool_fd: int
    max_bytes: int
    cpu_seconds: int
    limits: WalkLimits
    aliases: tuple[Alias, ...] = ()

    def as_json(self) -> str:
        """As :func:`main` takes it."""
        return json.dumps(asdict(self))


def main(argument: str) -> int:
    """Run the task; the exit code is 0 when a result was written, and else a line says why."""
    fields = json.loads(argument)
    limits = WalkLimits(**fields["limits"])
    aliases = tuple(Alias(**one) for one in fields["aliases"])
    task = Task(**{**fields, "packages": tuple(fields["packages"]), "limits": limits, "aliases": aliases})
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    modules = load_modules(task.packages, _rules(task))
    if task.aliases:
        modules = tuple(module for module in modules if module.name in NAMED)
    try:
        with kernel.user_namespace(task.base, task.size) as userns_fd:
            kernel.unshare(kernel.CLONE_NEWNS)
            kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_SLAVE)
            confine.enter_empty_world(userns_fd)
        code = confine.fork_last(task.parent_pid, lambda: _inner(task, modules))
    except OSError as error:
        return _missing(error)
    return 1 if code is None else code


def _inner(task: Task, modules: Sequence[Module]) -> int:
    # What was imported stays for good; looking through it again and again would cost a fifth of the time.
    gc.freeze()
    spool_bytes = KEPT_MAX_BYTES + task.limits.file_bytes
    digests_bytes = 64 * task.limits.entries
    limits = confine.Rlimits(
        cpu_seconds=task.cpu_seconds,
        file_bytes=max(spool_bytes, 2 * task.limits.result_bytes + digests_bytes),
        address_space_bytes=ADDRESS_SPACE_BYTES,
    )
    try:
        confine.give_up_rights(None, limits)
    except OSError as error:
        return _missing(error)
    with os.fdopen(_RESULT_FD, "wb", closefd=False) as out:
        walk = Walk(
            modules, lambda: _read(task), Spool(task.spool_fd), out, task.limits, aliases=task.aliases
        )
        walk.run()
    return 0


def _rules(task: Task) -> Rules | None:
    if not task.rules:
        return None
    return Rules(os.pread(task.spool_fd, task.rules_bytes, 0), task.rules)


def _read(task: Task) -> LayerReader:
    os.lseek(_LAYER_FD, 0, os.SEEK_SET)
    most = task.max_bytes + _HEADER_BYTES * task.limits.entries
    return LayerReader(_LAYER_FD, algorithm=task.algorithm, max_bytes=most)


def _missing(error: OSError) -> int:
    sys.stderr.write(f"this host cannot confine the scanning of layers ({error.args[-1]})")
    sys.stderr.flush()
    return CANNOT_CONFINE
