"""The output of a run: kept up to its limit, and passed on to whoever watches."""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from dataclasses import dataclass, field

_LAST_SECONDS = 10.0


@dataclass(slots=True)
class LogBuffer:
    """The output of a run, kept up to ``limit_bytes``. ``fd`` is the reading end of a pipe, non-blocking.

    ``live_fd``, non-blocking too, gets what is kept as it comes. Somebody who reads slowly gets it later, and
    keeps nothing of the run waiting.
    """

    fd: int
    limit_bytes: int
    live_fd: int | None = None
    data: bytearray = field(default_factory=bytearray, init=False)
    full: bool = field(default=False, init=False)
    ended: bool = field(default=False, init=False)
    _shown_bytes: int = field(default=0, init=False)

    def read(self) -> None:
        """Take what is there; at the limit the pipe is closed, which ends most writers."""
        while not self.ended:
            try:
                chunk = os.read(self.fd, 65536)
            except BlockingIOError:
                break
            self.data += chunk
            if len(self.data) > self.limit_bytes:
                del self.data[self.limit_bytes :]
                self.full = True
            if not chunk or self.full:
                self._end()
        self._show()

    def close(self) -> None:
        """Close the pipe, once, and pass on what is left to whoever still reads."""
        self._end()
        deadline = time.monotonic() + _LAST_SECONDS
        while self._show() and (left := deadline - time.monotonic()) > 0:
            select.select([], [self.live_fd or -1], [], left)
        if self.live_fd is not None:
            os.close(self.live_fd)
            self.live_fd = None

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            os.close(self.fd)

    def _show(self) -> bool:
        """Whether there is more to pass on."""
        if self.live_fd is None:
            return False
        try:
            while self._shown_bytes < len(self.data):
                chunk = bytes(self.data[self._shown_bytes : self._shown_bytes + 65536])
                self._shown_bytes += os.write(self.live_fd, chunk)
        except BlockingIOError:
            return True
        except BrokenPipeError:
            with suppress(OSError):
                os.close(self.live_fd)
            self.live_fd = None
        return False
