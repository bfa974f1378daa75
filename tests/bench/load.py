"""Requests over kept connections, and the CPU time that they cost the server.

Closed loop: each connection has one request under way; what is counted is exact, and every answer is looked
at. The generator has a core of its own and the servers share the other, so neither takes the other's time.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.bench.processes import UNVERIFIED, tree_cpu_seconds
from tests.kit.images import OCI_INDEX, OCI_MANIFEST

SERVER_CORE = 0
GENERATOR_CORE = 1
ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json", "*/*"))
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """A server to ask. ``pids`` are the roots of the process trees whose CPU time counts."""

    name: str
    port: int
    pids: tuple[int, ...]
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: bool = False

    def connect(self) -> socket.socket:
        """A new connection."""
        plain = socket.create_connection(("127.0.0.1", self.port), 60)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return UNVERIFIED.wrap_socket(plain) if self.tls else plain


def request(method: str, path: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a request without a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: registry.test", "User-Agent: bench", f"Accept: {ACCEPT}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this process on one core for a while, if there are several."""
    before = os.sched_getaffinity(0)
    if core in before and len(before) > 1:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_per_request(target: Target, method: str, path: str, *, count: int, connections: int = 10) -> float:
    """Microseconds of server CPU (user and system) per request, over ``count`` requests after a warm-up."""
    with ExitStack() as stack:
        stack.enter_context(on_core(GENERATOR_CORE))
        loop = _Loop(request(method, path, target.headers), bodiless=method == "HEAD")
        for _ in range(connections):
            loop.sockets.append(stack.enter_context(target.connect()))
        each = -(-count // connections)
        loop.run(min(1 + 50 // connections, each))
        before = sum(map(tree_cpu_seconds, target.pids))
        loop.run(each)
        return (sum(map(tree_cpu_seconds, target.pids)) - before) / (each * connections) * 1e6


class _Loop:
    def __init__(self, asked: bytes, *, bodiless: bool) -> None:
        self.sockets: list[socket.socket] = []
        self._asked = asked
        self._bodiless = bodiless
        self._usual = -1

    def run(self, each: int) -> None:
        """``each`` requests on each connection."""
        for one in self.sockets:
            one.sendall(self._asked)
        for left in range(each - 1, -1, -1):
            for one in self.sockets:
                answer = one.recv(65536)
                if len(answer) != self._usual or not answer.startswith(b"HTTP/1.1 200 "):
                    self._rest(one, answer)
                if left:
                    one.sendall(self._asked)

    def _rest(self, one: socket.socket, answer: bytes) -> None:
        while b"\r\n\r\n" not in answer:
            answer += _more(one)
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"answered {head[:200]!r} {body[:300]!r}")
        found = _LENGTH.search(head)
        if found is None and not self._bodiless:
            raise RuntimeError(f"an answer without its length: {head[:300]!r}")
        length = 0 if found is None or self._bodiless else int(found[1])
        while len(body) < length:
            body += _more(one)
        if len(body) > length:
            raise RuntimeError("an answer is longer than it says")
        self._usual = len(head) + 4 + length


def _more(one: socket.socket) -> bytes:
    more = one.recv(1 << 20)
    if not more:
        raise RuntimeError("the server closed the connection")
    return more
