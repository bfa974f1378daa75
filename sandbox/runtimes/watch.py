"""Watching one running command: its output, its end, its time, and the probes that look at it."""

from __future__ import annotations

import os
import platform
import select
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from registry.contract.limits import Limits
from registry.contract.report import Observation
from sandbox.probes.base import Ending, Probe, View
from sandbox.runtimes.output import LogBuffer

_TICK_SECONDS = 0.02
_LAST_OUTPUT_SECONDS = 1.0
# What looks may take beyond the wall clock, all of them together: at its end each has its last.
_LAST_LOOKS_SECONDS = 2.0
_KILL_SECONDS = 10.0
_MASKS = ("SigCgt", "SigBlk", "CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb")
_RT_SIGTIMEDWAIT = MappingProxyType({"x86_64": "128", "aarch64": "137"})

Over = Literal["", "timeout", "log-full", "cancelled"]


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen until every probe had decided, the command had ended or the run was over."""

    ending: Ending | None
    over: Over
    seconds: float
    observations: tuple[Observation, ...]
    ready_seconds: float | None
    """When the last of the expectations was met that tell that the command is ready; ``None``: not so far, or
    none tells it."""


def watch(
    pid: int,
    probes: Sequence[Probe],
    *,
    log: LogBuffer,
    limits: Limits,
    cancelled: Callable[[], bool],
    sample: Callable[[float], None],
    companions: Sequence[int] = (),
) -> Watched:
    """Watch the command with process id ``pid``, a child of ours that is not reaped here.

    ``sample`` is told the time, in seconds since the start, again and again. ``companions`` are children that
    the runtime needs as long as the command runs.
    """
    decided: dict[int, Observation] = {}
    ready_at: dict[int, float] = {}
    telling = {index for index, probe in enumerate(probes) if probe.tells_ready}
    started = time.monotonic()
    ends = started + limits.wall_seconds + _LAST_LOOKS_SECONDS
    try:
        while True:
            select.select([] if log.ended else [log.fd], [], [], _TICK_SECONDS)
            log.read()
            # A namespace ends only when all of it is reaped, also what a probe that was ended left to us.
            reap_strays(keep=(pid, *companions, *(child for probe in probes for child in probe.children())))
            ending = find_ending(pid)
            if ending is not None:
                _read_rest(log)
            if log.full:
                # Its pipe is closed, and whether it notices before it is killed is chance.
                ending = None
            seconds = time.monotonic() - started
            sample(seconds)
            over = "" if ending is not None else _why_over(log, limits, seconds, cancelled)
            view = View(
                seconds=seconds,
                pid=pid,
                ending=ending,
                over=in_words(over, limits),
                log=lambda: log.data,
                left=lambda: ends - time.monotonic(),
            )
            for index, probe in enumerate(probes):
                if index not in decided and (observation := probe.poll(view)) is not None:
                    decided[index] = observation
                    if index in telling and observation.met:
                        ready_at[index] = seconds
            if len(decided) == len(probes) or ending is not None or over:
                observations = tuple(decided[index] for index in sorted(decided))
                ready = max(ready_at.values(), default=None) if len(ready_at) == len(telling) else None
                return Watched(ending, over, seconds, observations, ready)
    finally:
        for probe in probes:
            probe.close()


def find_ending(pid: int) -> Ending | None:
    """How the child ended, without reaping it, or ``None`` while it runs."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    if found.si_code == os.CLD_EXITED:
        return Ending(exit_code=found.si_status, signal=None)
    return Ending(exit_code=None, signal=found.si_status)


@dataclass(frozen=True, slots=True)
class Stopped:
    """What came of the stop signal."""

    listened: bool
    """Whether the command takes the signal; if not, it never gets it."""
    ending: Ending | None
    """How it ended by itself after that; ``None``: it was killed."""
    seconds: float


def stop(
    pid: int,
    number: int,
    *,
    log: LogBuffer,
    grace_seconds: float,
    cancelled: Callable[[], bool],
    kill_all: Callable[[], None],
    send: Callable[[int], None] | None = None,
    companions: Sequence[int] = (),
    keep: Sequence[int] = (),
) -> Stopped:
    """Ask the child to end by signal ``number`` if it listens to it, then kill it; ``kill_all`` does so with
    what is left around it.

    ``send`` is for a command that is not the child itself: it hands the signal on. ``companions`` as in
    :func:`watch`; those to ``keep`` are left alone when all others are killed.
    """
    started = time.monotonic()
    ending: Ending | None = None
    listened = send is not None or _listens(pid, number)
    if listened:
        with suppress(ProcessLookupError):
            os.kill(pid, number) if send is None else send(number)
        while (ending := find_ending(pid)) is None:
            if cancelled() or time.monotonic() - started >= grace_seconds:
                break
            select.select([] if log.ended else [log.fd], [], [], _TICK_SECONDS)
            log.read()
            # Its children that ended are ours to reap, or its namespace would not end.
            reap_strays(keep=(pid, *companions))
    stopped = Stopped(listened, ending, time.monotonic() - started)
    kill_all()
    kill(pid, keep=keep)
    return stopped


def kill(pid: int, *, keep: Iterable[int] = ()) -> None:
    """Kill the child, and with it everything in its process namespace and every other child but those to
    ``keep``."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _KILL_SECONDS
    while find_ending(pid) is None and time.monotonic() < deadline:
        reap_strays(keep=(pid, *keep))
        time.sleep(0.005)


def reap_strays(keep: Iterable[int]) -> None:
    """Kill and reap every child that is not in ``keep``: what runtime and probes left to their subreaper."""
    kept = set(keep)
    for pid in children_of(os.getpid()):
        if pid not in kept:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def children_of(pid: int) -> tuple[int, ...]:
    """Process ids of the direct children; none where the process is gone."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return tuple(int(text) for text in file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return ()


def _read_rest(log: LogBuffer) -> None:
    deadline = time.monotonic() + _LAST_OUTPUT_SECONDS
    log.read()
    while not log.ended and time.monotonic() < deadline:
        select.select([log.fd], [], [], _TICK_SECONDS)
        log.read()


def _why_over(log: LogBuffer, limits: Limits, seconds: float, cancelled: Callable[[], bool]) -> Over:
    if cancelled():
        return "cancelled"
    if log.full:
        return "log-full"
    return "timeout" if seconds >= limits.wall_seconds else ""


def in_words(over: Over, limits: Limits) -> str:
    """Why a run is over, for people; empty where it is not."""
    if over == "log-full":
        return f"ended by us: more than {limits.log_bytes} bytes of output"
    return f"ended by us: still running after {limits.wall_seconds:g} s" if over == "timeout" else over


def _listens(pid: int, number: int) -> bool:
    # The first process of a namespace does not even get a signal that it has no handler for, save one that it
    # holds back to wait for it (signalfd, sigwait): inits are such programs.
    status = read_status(pid)
    bit = 1 << (number - 1)
    return bool((status.get("SigCgt", 0) | status.get("SigBlk", 0)) & bit) or _waits_for_signals(pid)


def _waits_for_signals(pid: int) -> bool:
    # While it waits, the kernel shows nothing as held back.
    wanted = _RT_SIGTIMEDWAIT.get(platform.machine())
    try:
        for entry in os.scandir(f"/proc/{pid}/task"):
            with open(f"{entry.path}/syscall", encoding="ascii") as file:
                if file.read().split(" ", 1)[0] == wanted:
                    return True
    except OSError:
        pass
    return False


def read_status(pid: int) -> dict[str, int]:
    """The masks and numbers of ``/proc/PID/status`` that matter here; empty where the process is gone."""
    found = {}
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in _MASKS:
                    found[name] = int(value, 16)
                elif name in ("NoNewPrivs", "Seccomp", "Seccomp_filters"):
                    found[name] = int(value)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found
