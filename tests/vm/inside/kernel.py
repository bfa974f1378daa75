"""What the kernel logs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def new_lines() -> Iterator[list[str]]:
    """The list is filled, at the end, with what the kernel logged meanwhile."""
    lines: list[str] = []
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.lseek(log, 0, os.SEEK_END)
        yield lines
        while True:
            try:
                lines.append(os.read(log, 8192).decode(errors="replace").partition(";")[2].partition("\n")[0])
            except BlockingIOError:
                break
    finally:
        os.close(log)
