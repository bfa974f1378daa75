"""Expectations about the network: TCP ports that accept, and HTTP answers, on the run's own loopback."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import re2  # type: ignore[import-untyped]

from registry.contract.report import Observation
from registry.contract.runspec import HttpExpectation
from sandbox.probes.attempt import Answer, Attempt, inside_network
from sandbox.probes.base import View, retry_delay

LOOPBACKS = ("127.0.0.1", "::1")
BODY_BYTES = 64 * 1024
_ATTEMPT_SECONDS = 3.0


@dataclass(slots=True)
class NetworkProbe:
    """Tries ``look`` until it is met or ``within_seconds`` have passed."""

    expectation: str
    look: Callable[[], Answer]
    within_seconds: float
    _attempt: Attempt | None = field(default=None, init=False)
    _attempts: int = field(default=0, init=False)
    _next_at: float = field(default=0.0, init=False)
    _last: Answer = field(default_factory=lambda: Answer(None, "not tried"), init=False)

    def poll(self, view: View) -> Observation | None:
        """One attempt at a time; the last answer decides when time is up."""
        if self._attempt is not None and (answer := self._attempt.poll()) is not None:
            self._attempt, self._last = None, answer
            self._next_at = view.seconds + retry_delay(self._attempts)
            if answer.met:
                return self._observation(True, answer.seen)
        if view.ending is not None:
            # The command is gone, and so is whatever could have answered.
            return self._observation(False, f"{view.ending}; before: {self._last.seen}")
        if view.over:
            return self._observation(self._last.met, f"{view.over}; before: {self._last.seen}")
        if self._attempt is None and view.seconds >= self.within_seconds and self._attempts:
            return self._observation(self._last.met, self._last.seen)
        if self._attempt is None and view.seconds >= self._next_at:
            left = max(0.5, self.within_seconds - view.seconds)
            look = inside_network(view.pid, self.look)
            self._attempt = Attempt(look, timeout_seconds=min(_ATTEMPT_SECONDS, left))
            self._attempts += 1
        return None

    def children(self) -> tuple[int, ...]:
        """The attempt that is under way."""
        return () if self._attempt is None else (self._attempt.pid,)

    def close(self) -> None:
        """End an attempt that is under way."""
        if self._attempt is not None:
            self._attempt.close()
            self._attempt = None

    def _observation(self, met: bool | None, seen: str) -> Observation:
        return Observation(expectation=self.expectation[:300], seen=seen[:2000], met=met)


def tcp_probe(ports: tuple[int, ...], *, within_seconds: float) -> NetworkProbe:
    """One of the ports accepts a connection."""
    words = " or ".join(str(port) for port in ports)
    return NetworkProbe(f"TCP port {words} accepts within {within_seconds:g} s", _tcp(ports), within_seconds)


def http_probe(expected: HttpExpectation, *, within_seconds: float) -> NetworkProbe:
    """A GET answers with the status, and with a body that matches."""
    words = f"HTTP {expected.status} from port {expected.port}{expected.path}"
    if expected.body is not None:
        words += f" with a body that matches {expected.body!r}"
    return NetworkProbe(f"{words} within {within_seconds:g} s", _http(expected), within_seconds)


def _tcp(ports: tuple[int, ...]) -> Callable[[], Answer]:
    def look() -> Answer:
        problems = []
        for port in ports:
            try:
                _connect(port).close()
            except OSError as error:
                problems.append(f"port {port}: {error.strerror or error}")
            else:
                return Answer(True, f"port {port} accepts")
        return Answer(False, "; ".join(problems)[:500])

    return look


def _http(expected: HttpExpectation) -> Callable[[], Answer]:
    pattern = None if expected.body is None else re2.compile(expected.body)

    def look() -> Answer:
        connection = http.client.HTTPConnection("localhost", expected.port, timeout=_ATTEMPT_SECONDS)
        try:
            connection.sock = _connect(expected.port)
            connection.request(
                "GET", expected.path, headers={"Connection": "close", "User-Agent": "seatrial"}
            )
            response = connection.getresponse()
            body = response.read(BODY_BYTES).decode("utf-8", "replace") if pattern is not None else ""
        except OSError as error:
            return Answer(False, f"port {expected.port}: {error.strerror or error}")
        except http.client.HTTPException as error:
            return Answer(False, f"port {expected.port} does not speak HTTP: {type(error).__name__}")
        if response.status != expected.status:
            return Answer(False, f"HTTP {response.status}")
        if pattern is not None and not pattern.search(body):
            return Answer(False, f"HTTP {response.status}, but the body does not match: {body[:200]!r}")
        return Answer(True, f"HTTP {response.status}")

    return look


def _connect(port: int) -> socket.socket:
    first: OSError | None = None
    for host in LOOPBACKS:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # a kernel without IPv6
            first = first or error
            continue
        sock.settimeout(_ATTEMPT_SECONDS)
        try:
            sock.connect((host, port))
        except OSError as error:
            sock.close()
            first = first or error
        else:
            return sock
    assert first is not None
    raise first
