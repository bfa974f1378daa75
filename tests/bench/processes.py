"""Real processes of ours on free ports, and what the kernel says of them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kit.ports import free_port

UNVERIFIED = ssl._create_unverified_context()
SEATRIAL = Path(__file__).resolve().parents[2] / ".venv/bin/seatrial"


@dataclass(frozen=True, slots=True)
class Service:
    """A running ``serve`` or ``up``."""

    process: subprocess.Popen[bytes]
    url: str
    data: Path
    start_seconds: float

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    @property
    def token(self) -> str:
        """The administrator's token, from first start."""
        return (self.data / "admin.token").read_text().strip()

    @property
    def basic(self) -> dict[str, str]:
        """The administrator's header."""
        return basic(self.token)

    def request(self, path: str, *, method: str = "GET", body: object = None) -> Any:
        """Call the admin API as the administrator; the JSON of the answer."""
        asked = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=90, context=UNVERIFIED) as answer:
            return json.load(answer)

    def pull_token(self, name: str) -> dict[str, str]:
        """The header of a registry token (300 s) whose account may pull from one repository, not push."""
        body = {"name": "bench", "scopes": [f"repository:{name}:pull"]}
        made = self.request("/api/v1/tokens", method="POST", body=body)
        query = urllib.parse.urlencode({"service": "seatrial", "scope": f"repository:{name}:pull"})
        asked = urllib.request.Request(f"{self.url}/token?{query}", headers=basic(made["token"]))
        with urllib.request.urlopen(asked, timeout=90, context=UNVERIFIED) as answer:
            return {"Authorization": f"Bearer {json.load(answer)['token']}"}


@contextlib.contextmanager
def service(
    command: str,
    data: Path,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    core: int | None = None,
) -> Iterator[Service]:
    """``seatrial COMMAND`` until the block ends; ready when it is yielded.

    ``settings`` are given as SEATRIAL_NAME; ``core`` is the only one that it may run on.
    """
    port = free_port()
    url = f"{'https' if settings and 'tls' in settings else 'http'}://127.0.0.1:{port}"
    environment = {f"SEATRIAL_{name.upper()}": value for name, value in (settings or {}).items()}
    began = time.monotonic()
    with started(
        [str(SEATRIAL), command, "--data", str(data), "--listen", f"127.0.0.1:{port}", *arguments],
        log=data.parent / f"{data.name}.log",
        environment=environment,
        core=core,
    ) as process:
        wait_ready(f"{url}/readyz", process)
        yield Service(process, url, data, time.monotonic() - began)


@contextlib.contextmanager
def started(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    core: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the block ends; what it prints is appended to ``log``."""
    if core is not None and len(os.sched_getaffinity(0)) > 1:
        command = ["taskset", "--cpu-list", str(core), *command]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=os.environ | (environment or {})
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a GET of ``url`` is answered with success.

    Raises:
        RuntimeError: the process ended, or 60 seconds went by.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the process ended with {process.returncode} before it was ready")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(url, timeout=5, context=UNVERIFIED).close()
            return
        time.sleep(0.02)
    raise RuntimeError("not ready after 60 s")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process now."""
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """Highest resident memory since :func:`reset_peak`."""
    return _status(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Start the peak anew (Linux, proc_pid_clear_refs(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def basic(password: str) -> dict[str, str]:
    """The header of ``admin`` with this password."""
    return {"Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system, all threads, to the nanosecond (clock_getcpuclockid(3)).

    /proc/PID/stat has the same in steps of 10 ms, too coarse for a few thousand requests.
    """
    return time.clock_gettime((~pid << 3) | 2)


def tree(pid: int) -> list[int]:
    """The process and all that live below it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError):
                found += map(int, children.read_text().split())
    return found


def tree_cpu_seconds(pid: int) -> float:
    """:func:`cpu_seconds` of a process and all that live below it."""
    return sum(map(cpu_seconds, tree(pid)))


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name} in the status of process {pid}")
