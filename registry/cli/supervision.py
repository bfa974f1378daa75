"""Keeping child processes running: started again with growing pauses, stopped in order, never left behind."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import typer

from registry.cli.dropping import Identity

_PAUSES_SECONDS = (1, 2, 4, 8, 15, 30)
_STEADY_SECONDS = 60
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


@dataclass(slots=True)
class Child:
    """One process to keep running. ``command`` is asked anew for each start; ``stop_seconds`` is how long it
    may take to end after a signal before it is killed; ``environment`` is added to this process's own."""

    name: str
    command: Callable[[], Sequence[str]]
    stop_seconds: float
    identity: Identity | None = None
    umask: int = 0o077
    environment: Mapping[str, str] = field(default_factory=dict)
    process: Process | None = None

    async def start(self, *, pass_fds: Sequence[int] = (), more: Sequence[str] = ()) -> Process:
        """Start it. A terminal's Ctrl-C does not reach it, and it ends when this process dies."""
        identity = self.identity
        prctl = ctypes.CDLL(None).prctl

        def restrict() -> None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if identity is not None:
                prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)

        self.process = await asyncio.create_subprocess_exec(
            *self.command(),
            *more,
            pass_fds=pass_fds,
            env={**os.environ, **self.environment},  # noqa: TID251  (handed on as it is)
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            umask=self.umask,
            preexec_fn=restrict,
            user=identity.uid if identity else None,
            group=identity.gid if identity else None,
            extra_groups=[] if identity else None,
        )
        return self.process

    async def start_and_hear(
        self, *, pass_fds: Sequence[int] = (), more: Sequence[str] = ()
    ) -> tuple[Process, bytes]:
        """Start it with ``--ready-fd``, and give what it tells there; nothing if it ended before that."""
        read_fd, write_fd = os.pipe()
        try:
            process = await self.start(
                pass_fds=(*pass_fds, write_fd), more=(*more, "--ready-fd", str(write_fd))
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        return process, await _read_all(read_fd)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal it and wait for its end; kill it when that takes too long."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), self.stop_seconds)
        except TimeoutError:
            typer.echo(f"The {self.name} does not end; it is killed.", err=True)
            process.kill()
            await process.wait()


async def keep_running(child: Child, start: Callable[[], Awaitable[Process]]) -> None:
    """Wait for the end of ``child`` and start it again, for ever: the caller cancels."""
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        assert child.process is not None
        began = loop.time()
        code = await child.process.wait()
        failures = 0 if loop.time() - began > _STEADY_SECONDS else failures
        pause = _PAUSES_SECONDS[min(failures, len(_PAUSES_SECONDS) - 1)]
        failures += 1
        typer.echo(f"The {child.name} ended ({_ending(code)}); it is started again in {pause} s.", err=True)
        await asyncio.sleep(pause)
        try:
            await start()
        except OSError as error:  # no process or descriptor is left, say: others may end meanwhile
            typer.echo(f"The {child.name} cannot be started: {error.strerror or error}.", err=True)


def ending_signals() -> tuple[signal.Signals, ...]:
    """What ends a process in order: SIGTERM, Ctrl-C, and a terminal that is closed, unless whoever started it
    has that ignored, as ``nohup`` does."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT) if is_ignored else (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def seatrial(*arguments: str) -> list[str]:
    """The command line of another ``seatrial`` process, under the same Python."""
    return [sys.executable, "-m", "registry.main", *arguments]


async def _read_all(descriptor: int) -> bytes:
    """All that comes through a pipe until its other end is closed."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        return await reader.read()
    finally:
        transport.close()


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
