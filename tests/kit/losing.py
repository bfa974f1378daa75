"""A proxy that loses one answer, as a bad network does: the client has to ask again for what is done."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_BLOCK = 64 * 1024


@dataclass(slots=True)
class LosingProxy:
    """Listens at ``host``. The first answer after ``after`` bytes from clients is lost."""

    host: str
    after: int
    lost: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, length: int) -> None:
        """Count what a client has sent."""
        with self._lock:
            self.after -= length

    def loses(self) -> bool:
        """Whether this answer is the one."""
        with self._lock:
            if self.after > 0 or self.lost.is_set():
                return False
            self.lost.set()
            return True


@contextmanager
def losing_proxy(server: str, *, after: int) -> Iterator[LosingProxy]:
    """Pass everything on to ``server`` (HOST:PORT) and back, but for one answer and its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = LosingProxy(f"127.0.0.1:{listener.getsockname()[1]}", after)
        accepting = threading.Thread(target=_accept, args=(listener, server, made))
        accepting.start()
        try:
            yield made
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: socket.socket, server: str, proxy: LosingProxy) -> None:
    host, _, port = server.rpartition(":")
    serving = []
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # the test is over, and its clients have ended
            break
        upstream = socket.create_connection((host, int(port)))
        serving.append(threading.Thread(target=_serve, args=(client, upstream, proxy)))
        serving[-1].start()
    for thread in serving:
        thread.join()


def _serve(client: socket.socket, upstream: socket.socket, proxy: LosingProxy) -> None:
    with client, upstream:
        asking = threading.Thread(target=_ask, args=(client, upstream, proxy))
        asking.start()
        with suppress(OSError):
            while (block := upstream.recv(_BLOCK)) and not proxy.loses():
                client.sendall(block)
        for end in (client, upstream):
            with suppress(OSError):  # it has ended already
                end.shutdown(socket.SHUT_RDWR)
        asking.join()


def _ask(client: socket.socket, upstream: socket.socket, proxy: LosingProxy) -> None:
    with suppress(OSError):
        while block := client.recv(_BLOCK):
            proxy.asked(len(block))
            upstream.sendall(block)
        upstream.shutdown(socket.SHUT_WR)
