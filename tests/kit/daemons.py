"""Programs that serve a client through a socket of a test's own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 90


@contextmanager
def running_daemon(
    command: Sequence[str | Path], log: Path, *, is_ready: Callable[[], bool]
) -> Iterator[None]:
    """Start it, wait until it answers, and end it when the test has. What it mounted below its folders it
    takes away itself."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} did not start:\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()
