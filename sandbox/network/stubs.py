"""The stubs of one run: made in its network before it starts, and what it asked of them."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from registry.contract.expectations import StubExpectation, compiled
from registry.contract.report import StubRequest, StubUse
from registry.contract.stubs import Stub
from sandbox.errors import SandboxError
from sandbox.network.fence import inside
from sandbox.network.serving import BUFFER_BYTES, serve
from sandbox.probes.base import plain
from sandbox.runtimes.base import RuntimeInfo

LOOPBACK = "127.0.0.1"
_BACKLOG = 128
_MAX_REQUESTS = 32
_PATH_SHOWN = 250
_PIPE_BYTES = 1024 * 1024
_LATE_SECONDS = 0.3
"""What a connection may take to be told of whose command has ended."""


@dataclass(slots=True)
class StubsAtWork:
    """What the child that answers has told so far; without one there are no stubs."""

    stubs: Sequence[Stub] = ()
    expected: Sequence[StubExpectation] = ()
    pid: int = 0
    lost: bool = field(default=False, init=False)
    """Whether the child ended by itself: what was asked since is not known, and had no answer."""
    full: bool = field(default=False, init=False)
    """Whether it takes nothing more."""
    _fd: int = -1
    _rest: bytes = field(default=b"", init=False)
    _waited: bool = field(default=False, init=False)
    _connections: Counter[int] = field(default_factory=Counter, init=False)
    _requests: Counter[tuple[int, str, str]] = field(default_factory=Counter, init=False)
    _met: Counter[int] = field(default_factory=Counter, init=False)

    def read(self, *, ending: bool = False) -> None:
        """Take in what has been told; ``ending``: the child is not expected to live any more."""
        while self._fd >= 0:
            try:
                chunk = os.read(self._fd, 65536)
            except BlockingIOError:
                return
            if not chunk:
                self.lost = self.lost or not ending
                self.close()
                return
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._take(line)

    def asked(self, number: int, *, ended: bool) -> int:
        """How often the expectation of this number was met; ``ended``: the command has just ended."""
        self.read()
        if ended and not self._waited and self._fd >= 0:
            # Its last connection may not have been taken yet. Once is enough for all expectations.
            self._waited = True
            until = time.monotonic() + _LATE_SECONDS
            while (left := until - time.monotonic()) > 0 and self._met[number] < self.expected[number].times:
                select.select([self._fd], [], [], left)
                self.read()
                if self._fd < 0:
                    break
        return self._met[number]

    def uses(self) -> tuple[StubUse, ...]:
        """For the report, one for each stub."""
        return tuple(
            StubUse(
                name=stub.name,
                port=stub.port,
                connections=self._connections[number],
                requests=tuple(
                    StubRequest(method=method, path=path, times=times)
                    for (of, method, path), times in self._requests.items()
                    if of == number
                ),
                full=self.full,
            )
            for number, stub in enumerate(self.stubs)
        )

    def close(self) -> None:
        """Hear no more; the child is ended with all others of the run."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, line: bytes) -> None:
        # Who tells it has read what the image sent: what it says is checked as well.
        try:
            number, method, path = json.loads(line)
        except (ValueError, TypeError):
            return
        if number == -1:
            self.full = True
        if not isinstance(number, int) or not 0 <= number < len(self.stubs):
            return
        self._connections[number] += 1
        told = isinstance(method, str) and isinstance(path, str)
        if told:
            shown = (number, method[:16], plain(path)[:_PATH_SHOWN])
            if shown in self._requests or self._told_apart(number) < _MAX_REQUESTS:
                self._requests[shown] += 1
        stub = self.stubs[number]
        for index, one in enumerate(self.expected):
            if (stub.name, stub.port) != (one.name, one.port or stub.port):
                continue
            if one.method not in (None, method) or (stub.http is not None and not told):
                continue
            if one.path is None or (told and compiled(one.path).search(path)):
                self._met[index] += 1

    def _told_apart(self, number: int) -> int:
        return sum(of == number for of, _, _ in self._requests)


def open_stubs(
    pid: int, stubs: Sequence[Stub], expected: Sequence[StubExpectation], *, runtime: RuntimeInfo
) -> StubsAtWork:
    """Let the stubs listen on the loopback of the run whose first process is ``pid`` and has not started yet.
    For a process with a single thread.

    A listener is a socket of the run's network and of a process that is in nothing else of the run.

    Raises:
        SandboxError: ``isolation-missing``: the run's network is none of the host's.
        OSError: the listeners cannot be made.
    """
    if not stubs:
        return StubsAtWork()
    if runtime.kernel == "own":
        raise SandboxError(
            "isolation-missing",
            f"the run spec has a stub, and nothing can listen in the network that {runtime.name} has of its "
            "own; its worker needs --runtime runc, or auto",
        )
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with inside(namespace):
            listeners = [_listener(stub.port) for stub in stubs]
    finally:
        os.close(namespace)
    told, tell = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(tell, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    os.set_blocking(told, False)
    child = os.fork()
    if child == 0:
        serve(listeners, stubs, tell)
    os.close(tell)
    for one in listeners:
        one.close()
    return StubsAtWork(stubs, expected, child, _fd=told)


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        # Connections inherit it.
        listener.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    listener.bind((LOOPBACK, port))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener
