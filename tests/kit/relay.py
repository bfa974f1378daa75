"""What passes connections on to a server, and may lose an answer as a bad network does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_BLOCK = 64 * 1024


@dataclass(slots=True)
class Relay:
    """Listens at ``host``. If ``lose_after`` is given, the first answer after so many bytes from clients is
    lost: the client has to ask again for what is done."""

    host: str
    lose_after: int | None
    lost: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, length: int) -> None:
        """Count what a client has sent."""
        with self._lock:
            if self.lose_after is not None:
                self.lose_after -= length

    def loses(self) -> bool:
        """Whether this answer is the one."""
        with self._lock:
            if self.lose_after is None or self.lose_after > 0 or self.lost.is_set():
                return False
            self.lost.set()
            return True


@contextmanager
def relay(server: str, *, host: str = "127.0.0.1", lose_after: int | None = None) -> Iterator[Relay]:
    """Pass on what comes in at an address of ``host`` to ``server`` (HOST:PORT), and back."""
    with socket.create_server((host, 0)) as listener:
        made = Relay(f"{host}:{listener.getsockname()[1]}", lose_after)
        accepting = threading.Thread(target=_accept, args=(listener, server, made))
        accepting.start()
        try:
            yield made
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: socket.socket, server: str, made: Relay) -> None:
    host, _, port = server.rpartition(":")
    serving = []
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # the test is over, and its clients have ended
            break
        upstream = socket.create_connection((host, int(port)))
        serving.append(threading.Thread(target=_serve, args=(client, upstream, made)))
        serving[-1].start()
    for thread in serving:
        thread.join()


def _serve(client: socket.socket, upstream: socket.socket, made: Relay) -> None:
    with client, upstream:
        asking = threading.Thread(target=_ask, args=(client, upstream, made))
        asking.start()
        with suppress(OSError):
            while (block := upstream.recv(_BLOCK)) and not made.loses():
                client.sendall(block)
        for end in (client, upstream):
            with suppress(OSError):  # it has ended already
                end.shutdown(socket.SHUT_RDWR)
        asking.join()


def _ask(client: socket.socket, upstream: socket.socket, made: Relay) -> None:
    with suppress(OSError):
        while block := client.recv(_BLOCK):
            made.asked(len(block))
            upstream.sendall(block)
    with suppress(OSError):
        upstream.shutdown(socket.SHUT_WR)
