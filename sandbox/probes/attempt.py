"""One look at a run, by a forked child of its supervisor.

What an image answers is read by the child alone, never by the process that supervises. Its own answer is one
line of JSON, and it is ended when its time is up.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from sandbox.syscalls import CLONE_NEWNET, PR_SET_NO_NEW_PRIVS, enter, prctl

_NOBODY = 65534
_ANSWER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """``met`` is null where the child could not look."""

    met: bool | None
    seen: str
    timed_out: bool = False
    """Whether it was ended before it had an answer."""


class Attempt:
    """A running look. The caller's process must be single-threaded, for it is forked."""

    __slots__ = ("_deadline", "_fd", "pid")

    def __init__(self, look: Callable[[], Answer], *, timeout_seconds: float) -> None:
        self._fd, write_fd = os.pipe()
        self._deadline = time.monotonic() + timeout_seconds
        self.pid = os.fork()
        if self.pid == 0:
            _child(look, write_fd)
        os.close(write_fd)

    def poll(self) -> Answer | None:
        """The answer, or ``None`` for not yet."""
        if select.select([self._fd], [], [], 0)[0]:
            raw = os.read(self._fd, _ANSWER_BYTES)
            self.close()
            return _parse(raw)
        if time.monotonic() > self._deadline:
            self.close()
            return Answer(False, "no answer in time", timed_out=True)
        return None

    def wait(self) -> Answer:
        """The answer, however long it takes until the time is up."""
        select.select([self._fd], [], [], max(0.0, self._deadline - time.monotonic()) + 0.01)
        return self.poll() or self.wait()

    def close(self) -> None:
        """End the child, whatever it does."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._fd)
            self.pid = 0


@dataclass(slots=True)
class Attempting:
    """What probes have in common that look by one attempt after the other."""

    excuse: Callable[[], str | None] = field(default=lambda: None, kw_only=True)
    """Why a look that had no answer, or none in time, could not have one, if so."""
    _attempt: Attempt | None = field(default=None, init=False)
    _attempts: int = field(default=0, init=False)

    def children(self) -> tuple[int, ...]:
        """The attempt that is under way."""
        return () if self._attempt is None else (self._attempt.pid,)

    def close(self) -> None:
        """End an attempt that is under way."""
        if self._attempt is not None:
            self._attempt.close()
            self._attempt = None

    def _begin(self, look: Callable[[], Answer], *, timeout_seconds: float) -> None:
        self._attempt = Attempt(look, timeout_seconds=timeout_seconds)
        self._attempts += 1

    def _answered(self) -> Answer | None:
        """The answer of the attempt that is under way, once it is there; then none is."""
        answer = None if self._attempt is None else self._attempt.poll()
        if answer is not None:
            self._attempt = None
            if (answer.timed_out or answer.met is None) and (why := self.excuse()) is not None:
                return Answer(None, why)
        return answer


def inside_network(pid: int, look: Callable[[], Answer]) -> Callable[[], Answer]:
    """``look``, done in the network of the process ``pid`` by nobody: no ids, no files, nothing to gain.

    Only the network namespace is entered, so nothing of the image is used.
    """

    def entered() -> Answer:
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            enter(namespace, CLONE_NEWNET)
            os.close(namespace)
            become_nobody()
        except OSError as error:
            return Answer(None, f"the probe could not enter the run's network: {error.strerror}")
        return look()

    return entered


def become_nobody() -> None:
    """Give up, in a forked child, all that who reads what an image sends could abuse.

    Raises:
        OSError: it cannot be given up.
    """
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _parse(raw: bytes) -> Answer:
    # The child has read hostile bytes: what it says is checked as well.
    try:
        met, seen = json.loads(raw)
    except (ValueError, TypeError):
        return Answer(None, "the probe ended without an answer")
    if met not in (True, False, None) or not isinstance(seen, str):
        return Answer(None, "the probe's answer is not readable")
    return Answer(met, seen[:500])


def detach(*keep: int) -> None:
    """Have, in a forked child, none of the parent's files but ``keep``, and signals as programs have them."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    first = 3
    for fd in sorted(keep):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, 4096)


def _child(look: Callable[[], Answer], write_fd: int) -> None:
    try:
        detach(write_fd)
        answer = look()
        # As letters, not as escapes: those of 500 could have more bytes than an answer.
        said = json.dumps([answer.met, answer.seen[:500]], ensure_ascii=False)
        os.write(write_fd, said.encode("utf-8", "replace")[:_ANSWER_BYTES])
    finally:
        os._exit(0)
