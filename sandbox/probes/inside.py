"""A command run inside a run, under all of its restrictions; for a look that a forked child makes."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from sandbox.probes.base import plain
from sandbox.runtimes.base import RuntimeFailure
from sandbox.syscalls import become_subreaper

OUTPUT_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 400
NO_ROOM = re.compile(
    r"pthread_create failed|failed to create new OS thread|newosproc|errno[= ]11\b|cannot fork|can't fork"
    r"|resource temporarily unavailable|cannot allocate memory",
    re.IGNORECASE,
)
"""What a runtime says of its own last steps inside a run, of which the run let nothing more be made."""

Exec = Callable[[Mapping[str, object], int], int]
"""Start a process inside, its output to a descriptor; its process id. Raises ``RuntimeFailure``."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ran to its end. ``output`` is the first 64 KiB of it."""

    exit_code: int
    """Negative: the number of the signal that ended it."""
    output: str

    def __str__(self) -> str:
        end = f"exit code {self.exit_code}" if self.exit_code >= 0 else f"ended by signal {-self.exit_code}"
        text = self.output.strip()
        return end + (f": {text[:_SHOWN_CHARACTERS]}" if text else "")


@dataclass(frozen=True, slots=True)
class NotRun:
    """Nothing was run, which says nothing about what the command would have found."""

    why: str


def run_inside(execute: Exec, process: Mapping[str, object]) -> Done | NotRun:
    """Run ``process`` and wait for it. The caller is a process of its own, and ends what does not end."""
    # The runtime leaves the process to its nearest subreaper: this child, which then sees its exit code.
    become_subreaper()
    read_fd, write_fd = os.pipe()
    try:
        pid = execute(process, write_fd)
    except RuntimeFailure as failure:
        return NotRun(failure.text)
    os.close(write_fd)
    output = _read_until_end(read_fd, pid)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    text = plain(output.decode("utf-8", "replace"))
    if could_not_look(code, text):
        return NotRun("the run has no process or memory left for it")
    return Done(code, text)


def could_not_look(exit_code: int, output: str) -> bool:
    """Whether a command inside failed for want of processes or memory, and not by what it found."""
    return exit_code in (1, 2, 126, 254, 255) and NO_ROOM.search(output) is not None


def _read_until_end(fd: int, pid: int) -> bytes:
    """The first bytes of the output; what follows is read and thrown away, so that nobody blocks."""
    kept = b""
    while True:
        ready = select.select([fd], [], [], 0.05)[0]
        if ready:
            chunk = os.read(fd, 65536)
            if not chunk:
                return kept
            kept = (kept + chunk)[:OUTPUT_BYTES]
            continue
        # A daemon that the command left behind may hold the pipe open for ever.
        with suppress(ChildProcessError):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return kept
