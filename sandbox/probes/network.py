"""Expectations about the network: TCP ports that accept, and HTTP answers, on the run's own loopback."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from email.message import Message
from typing import Any

from registry.contract.expectations import HttpExpectation, compiled
from sandbox.probes.attempt import Answer, inside_network
from sandbox.probes.retried import RetriedProbe

LOOPBACKS = ("127.0.0.1", "::1")
BODY_BYTES = 64 * 1024
JSON_BYTES = 1024 * 1024
ATTEMPT_SECONDS = 3.0

Look = Callable[[socket.socket, int], Answer]
"""What a connection to a port shows."""
Reach = Callable[[int, tuple[int, ...], Look], Callable[[], Answer]]
"""An attempt to connect to the first of some ports that accepts, in the network of a process, and to look:
the process id, the ports, the look. Whoever looks has no rights any more."""


def tcp_probe(ports: tuple[int, ...], *, reach: Reach, within_seconds: float) -> RetriedProbe:
    """One of the ports accepts a connection."""
    words = " or ".join(str(port) for port in ports)
    expectation = f"TCP port {words} accepts within {within_seconds:g} s"
    return _probe(expectation, lambda pid: reach(pid, ports, _accepts), within_seconds)


def http_probe(expected: HttpExpectation, *, reach: Reach, within_seconds: float) -> RetriedProbe:
    """A GET answers with the status, and with headers and a body that match."""
    expectation = f"{expected.in_words()[:250]} within {within_seconds:g} s"
    look = _http(expected)
    return _probe(expectation, lambda pid: reach(pid, (expected.port,), look), within_seconds)


def _probe(
    expectation: str, look: Callable[[int], Callable[[], Answer]], within_seconds: float
) -> RetriedProbe:
    return RetriedProbe(expectation, look, within_seconds=within_seconds, attempt_seconds=ATTEMPT_SECONDS)


def reach_loopback(pid: int, ports: tuple[int, ...], look: Look) -> Callable[[], Answer]:
    """Through the run's network namespace, as :data:`Reach` says."""
    return inside_network(pid, lambda: first_of(ports, _connect, look))


def first_of(ports: tuple[int, ...], connect: Callable[[int], socket.socket], look: Look) -> Answer:
    """What the first port that ``connect`` gets through to shows; ``OSError`` is one that refuses."""
    problems = []
    for port in ports:
        try:
            sock = connect(port)
        except OSError as error:
            problems.append(f"port {port}: {error.strerror or error}")
        else:
            return look(sock, port)
    return Answer(False, "; ".join(problems)[:500])


def _accepts(sock: socket.socket, port: int) -> Answer:
    sock.close()
    return Answer(True, f"port {port} accepts")


def _http(expected: HttpExpectation) -> Look:
    pattern = None if expected.body is None else compiled(expected.body)

    def look(sock: socket.socket, port: int) -> Answer:
        connection = http.client.HTTPConnection("localhost", port, timeout=ATTEMPT_SECONDS)
        connection.sock = sock
        try:
            connection.request(
                "GET", expected.path, headers={"Connection": "close", "User-Agent": "seatrial"}
            )
            response = connection.getresponse()
            limit_bytes = JSON_BYTES + 1 if expected.values else BODY_BYTES
            body = response.read(limit_bytes) if pattern is not None or expected.values else b""
        except OSError as error:
            return Answer(False, f"port {port}: {error.strerror or error}")
        except http.client.HTTPException as error:
            return Answer(False, f"port {port} does not speak HTTP: {type(error).__name__}")
        if response.status != expected.status:
            return Answer(False, f"HTTP {response.status}")
        why = _unlike(expected, pattern, response.headers, body)
        return Answer(why is None, f"HTTP {response.status}" + ("" if why is None else f", but {why}"))

    return look


def _unlike(expected: HttpExpectation, pattern: Any, headers: Message, body: bytes) -> str | None:
    """What of an answer is not as expected, in words."""
    for name, wanted in (expected.headers or {}).items():
        there = [str(value) for value in headers.get_all(name, [])]
        if not any(compiled(wanted).search(value) for value in there):
            return f"the header {name} does not match: {there[0][:200]!r}" if there else f"no header {name}"
    text = body[:BODY_BYTES].decode("utf-8", "replace")
    if pattern is not None and not pattern.search(text):
        return f"the body does not match: {text[:200]!r}"
    if not expected.values:
        return None
    if len(body) > JSON_BYTES:
        return f"the body has more than {JSON_BYTES} bytes"
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return f"the body is not JSON: {text[:200]!r}"
    missed = next((one for one in expected.values if not one.met_by(document)), None)
    return None if missed is None else f"not in its JSON: {missed.in_words()}; {text[:200]!r}"


def _connect(port: int) -> socket.socket:
    first: OSError | None = None
    for host in LOOPBACKS:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # a kernel without IPv6
            first = first or error
            continue
        sock.settimeout(ATTEMPT_SECONDS)
        try:
            sock.connect((host, port))
        except OSError as error:
            sock.close()
            first = first or error
        else:
            return sock
    assert first is not None
    raise first
