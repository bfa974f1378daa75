"""Ports of the loopback address that nobody has now.

They are to be free a moment later, too: so they are none of those that the kernel gives to who asks for any.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress

_PORTS = range(10_000, 32_000)


def free_ports(count: int) -> list[int]:
    """So many different ones."""
    found: list[int] = []
    with ExitStack() as stack:
        # Not by the common generator, which some tests set to what others have.
        for port in random.SystemRandom().sample(_PORTS, 100 * count):
            if len(found) == count:
                break
            with suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
    assert len(found) == count
    return found


def free_port() -> int:
    """One."""
    return free_ports(1)[0]
