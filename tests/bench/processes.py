"""Real processes of ours on free ports, and what the kernel says of them."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEATRIAL = Path(__file__).resolve().parents[2] / ".venv/bin/seatrial"


@dataclass(frozen=True, slots=True)
class Service:
    """A running ``serve`` or ``up``."""

    process: subprocess.Popen[bytes]
    port: int
    data: Path
    start_seconds: float

    @property
    def url(self) -> str:
        """Address of its root."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """The administrator's token, from first start."""
        return (self.data / "admin.token").read_text().strip()

    def request(self, path: str) -> object:
        """GET as the administrator; the JSON of the answer."""
        asked = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(asked, timeout=90) as answer:
            return json.load(answer)


@contextlib.contextmanager
def service(command: str, data: Path, *arguments: str) -> Iterator[Service]:
    """``seatrial COMMAND`` until the block ends; ready when it is yielded."""
    port = free_port()
    log = (data.parent / f"{data.name}.log").open("ab")
    began = time.monotonic()
    process = subprocess.Popen(
        [str(SEATRIAL), command, "--data", str(data), "--listen", f"127.0.0.1:{port}", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    try:
        wait_ready(port, process)
        yield Service(process, port, data, time.monotonic() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def wait_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until ``/readyz`` says yes.

    Raises:
        RuntimeError: the process ended, or 60 seconds went by.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the process ended with {process.returncode} before it was ready")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
            return
        time.sleep(0.02)
    raise RuntimeError("not ready after 60 s")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def resident_bytes(pid: int) -> int:
    """Resident memory of a process now."""
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """Highest resident memory since :func:`reset_peak`."""
    return _status(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Start the peak anew (Linux, proc_pid_clear_refs(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name} in the status of process {pid}")
