"""``seatrial serve --processes N``: several registry processes behind one port, and who looks after them.

The port is this process's: while a child is started again the others answer, and who has just connected
waits his turn. The children share nothing but database and store, as replicas on several hosts do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client.multiprocess import mark_process_dead

from registry.cli.counters import CountersFolder, make_counters_folder
from registry.cli.supervision import Child, ending_signals, keep_running, seatrial
from registry.http.listener import bind
from registry.settings import Settings, SettingsError

if TYPE_CHECKING:
    import socket

_TAKE_TURNS = {"UV_TCP_SINGLE_ACCEPT": "1"}
"""Lets libuv pause after each connection that it takes; else who wakes first takes all that wait."""
_STOP_MORE_SECONDS = 5
"""What a child may take beyond its transfers before it is killed."""


@dataclass(slots=True)
class Crew:
    """The children of one ``serve``. ``options`` are those of its command line that they share,
    ``first_options`` those of the first child's first start; ``ready`` is told what that child tells when it
    listens."""

    settings: Settings
    options: Sequence[str]
    first_options: Sequence[str]
    ready: Callable[[bytes], None]
    listening: list[socket.socket] = field(init=False)
    children: list[Child] = field(init=False)
    counters: CountersFolder = field(init=False)
    environment: dict[str, str] = field(default_factory=_TAKE_TURNS.copy)
    begun: bool = False

    async def run(self) -> int:
        """Serve until told to stop; the exit code.

        Raises:
            SettingsError: the address cannot be used.
        """
        settings = self.settings
        try:
            self.listening = bind(settings.listen_host, settings.listen_port)
        except OSError as error:
            raise SettingsError(
                f"listen: {settings.listen} cannot be used: {error.strerror or error}"
            ) from None
        self._make_counters()
        try:
            return await self._run()
        finally:
            for each in self.listening:
                each.close()
            self.counters.remove()

    def _make_counters(self) -> None:
        # What has ended is still counted, and each can tell the sum.
        self.counters = make_counters_folder()
        self.environment["PROMETHEUS_MULTIPROC_DIR"] = str(self.counters.path)

    async def _run(self) -> int:
        self.children = [
            Child(
                name=f"registry process {number}",
                command=self._command,
                stop_seconds=self.settings.shutdown_seconds + _STOP_MORE_SECONDS,
                environment=self.environment,
            )
            for number in range(1, self.settings.processes + 1)
        ]
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in ending_signals():
            loop.add_signal_handler(number, self._signalled, stop)
        stopped = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(self._start_first())
        tasks: list[asyncio.Task[Any]] = [starting]
        try:
            await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return 0
            if (failed := starting.result()) is not None:
                return failed
            tasks += [asyncio.create_task(self._keep(child)) for child in self.children]
            ended, _ = await asyncio.wait([*tasks[1:], stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
            return 0
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(child.stop() for child in self.children))

    async def _start_first(self) -> int | None:
        """Start the first; its exit code where it could not start.

        It migrates the database and makes the administrator; only then there is something to share.
        """
        process, told = await self._start(self.children[0])
        if not told:
            return await process.wait()
        self.begun = True
        self.ready(told)
        return None

    async def _start(self, child: Child) -> tuple[Process, bytes]:
        if not self.counters.is_there():  # somebody has tidied up
            os.close(self.counters.descriptor)
            self._make_counters()
        sockets = [each.fileno() for each in self.listening]
        return await child.start_and_hear(
            pass_fds=(*sockets, self.counters.descriptor),
            more=("--listen-fds", ",".join(map(str, sockets))),
        )

    async def _keep(self, child: Child) -> None:
        async def again() -> Process:
            assert child.process is not None
            mark_process_dead(child.process.pid, str(self.counters.path))  # type: ignore[no-untyped-call]
            return (await self._start(child))[0]

        if child.process is None:
            await self._start(child)
        await keep_running(child, again)

    def _signalled(self, stop: asyncio.Event) -> None:
        # The second signal ends them at once; they make the same of it.
        if stop.is_set():
            for child in self.children:
                if child.process is not None and child.process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        child.process.send_signal(signal.SIGTERM)
        stop.set()

    def _command(self) -> list[str]:
        return seatrial("serve", *self.options, *(("--again",) if self.begun else self.first_options))
