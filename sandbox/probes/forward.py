"""A way to the ports of a run whose network is its own: the runtime connects a unix socket to one."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from sandbox.probes.attempt import Answer, become_nobody
from sandbox.probes.network import ATTEMPT_SECONDS, Look, first_of

Forward = Callable[[int, str], tuple[str, ...]]
"""The command of the runtime that connects a unix socket, by its path, to a port of the run."""


def reach_through(
    forward: Forward, folder: Path
) -> Callable[[int, tuple[int, ...], Look], Callable[[], Answer]]:
    """As :data:`sandbox.probes.network.Reach` says; ``folder`` is the run's own on the host."""

    def reach(_: int, ports: tuple[int, ...], look: Look) -> Callable[[], Answer]:
        return lambda: first_of(ports, lambda port: _connect(forward, folder, port), _as_nobody(look))

    return reach


def _connect(forward: Forward, folder: Path, port: int) -> socket.socket:
    # A relative name: the path of a unix socket has at most 107 bytes.
    os.chdir(folder)
    name = f"probe-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(name)
        try:
            listener.listen(1)
            listener.settimeout(ATTEMPT_SECONDS)
            sock, code = _forwarded(forward(port, name), listener)
        finally:
            Path(name).unlink()
    if code != 0:
        sock.close()
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    sock.settimeout(ATTEMPT_SECONDS)
    return sock


def _forwarded(command: tuple[str, ...], listener: socket.socket) -> tuple[socket.socket, int]:
    """The socket that the runtime connected, and how its call ended, which tells whether the port took it."""
    null = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=null, stdout=null, stderr=null) as process:
        try:
            sock, _ = listener.accept()
            return sock, process.wait(ATTEMPT_SECONDS)
        except subprocess.TimeoutExpired:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
        finally:
            process.kill()


def _as_nobody(look: Look) -> Look:
    def looked(sock: socket.socket, port: int) -> Answer:
        try:
            become_nobody()
        except OSError as error:
            return Answer(None, f"the probe could not give up its rights: {error.strerror}")
        return look(sock, port)

    return looked
