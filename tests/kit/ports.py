"""Ports of the loopback address that nobody else takes.

None of those that the kernel gives to whoever asks for any: between the look and the use of one of them it
may be somebody else's, and so may that of a server which is killed and started again.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_FIRST, _END = 10_000, 65_536
_GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """So many different ones, which are this process's to its end."""
    return list(itertools.islice(_ports(), count))


def free_port() -> int:
    """One."""
    return free_ports(1)[0]


@cache
def _ports() -> Iterator[int]:
    """Each once: what this process has locked of a file with a byte for each, no other has."""
    least, most = map(int, _GIVEN.read_text().split())
    ports = [port for port in range(_FIRST, _END) if not least <= port <= most] or [*range(_FIRST, _END)]
    first = os.getpid() * 97 % len(ports)  # not all those that others have looked at before
    locks = os.open(f"/tmp/seatrial-test-ports-{os.geteuid()}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return (port for port in ports[first:] + ports[:first] if _take(locks, port))


def _take(locks: int, port: int) -> bool:
    try:
        fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
