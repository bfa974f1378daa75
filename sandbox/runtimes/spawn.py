"""Supervisors for runs: each is forked, in some milliseconds, from one that has imported what they need."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sandbox.errors import SandboxError

# Isolated: neither the worker's environment nor its working folder chooses what is imported.
_COMMAND = (sys.executable, "-I", "-m", "sandbox.runtimes.template")
# Nor does a package beside ours; to ask each for plug-ins takes a while.
_ENVIRONMENT = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}
_ANSWER_SECONDS = 30.0
_END_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Supervisor:
    """A new supervisor: ``channel`` is its standard input and output, and its lifeline."""

    channel: socket.socket
    pidfd: int

    def kill(self) -> None:
        """End it, if it has not ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Let go of it; it ends its run and itself, if it has not."""
        self.channel.close()
        os.close(self.pidfd)


class Supervisors:
    """Where the supervisors of one worker come from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._template: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def warm_up(self) -> None:
        """Begin to import what they need; the first one then starts as fast as all others."""
        with self._lock:
            self._begin()

    def start(self, live_fd: int | None = None) -> Supervisor:
        """One more, which passes the run's output on to ``live_fd``. Blocking.

        Raises:
            SandboxError: ``worker-error``: it cannot be started.
        """
        with self._lock:
            for _ in range(2):
                try:
                    return self._ask(self._control or self._begin(), live_fd)
                except OSError:
                    # Killed, for want of memory perhaps; the runs that it has started go on.
                    self._end()
        raise SandboxError("worker-error", "the run's supervisor cannot be started", retryable=True)

    def close(self) -> None:
        """No more; those that run are left alone."""
        with self._lock:
            self._end()

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_ANSWER_SECONDS)
        with theirs:
            self._template = subprocess.Popen(
                _COMMAND,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        self._control = ours
        return ours

    def _ask(self, control: socket.socket, live_fd: int | None) -> Supervisor:
        channel, theirs = socket.socketpair()
        try:
            with theirs:
                passed = [theirs.fileno()] if live_fd is None else [theirs.fileno(), live_fd]
                socket.send_fds(control, [b"+"], passed)
            _, fds, _, _ = socket.recv_fds(control, 1, 1)
            if not fds:
                raise BrokenPipeError
        except OSError:
            channel.close()
            raise
        os.set_inheritable(fds[0], False)
        return Supervisor(channel, fds[0])

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._template is not None:
            try:
                self._template.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._template.kill()
                self._template.wait()
        self._control = self._template = None


@contextmanager
def opened_supervisors() -> Iterator[Supervisors]:
    """A source of supervisors, for as long as the block lasts."""
    supervisors = Supervisors()
    supervisors.warm_up()
    try:
        yield supervisors
    finally:
        supervisors.close()
