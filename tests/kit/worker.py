"""``seatrial worker run`` as a process of its own, and the proof that it left nothing behind."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.runtimes.cgroups import find_cgroups, group_names
from tests.kit.warm import ForkedProcess, can_fork, start_seatrial

STOP_SECONDS = 120
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def why_no_runs() -> str | None:
    """Why no image can be run by tests here, if so."""
    if os.geteuid() != 0:
        return "needs root"
    return None if shutil.which("runc", path=PATH) else "runc is not installed"


@dataclass(slots=True)
class WorkerProcess:
    """A worker with a state folder of its own; started again it finds what it left."""

    folder: Path
    url: str
    token: str = field(repr=False)
    slots: int = 1
    state_name: str = "state"
    through: tuple[str, ...] = ()
    """What it is started by."""
    _process: subprocess.Popen[bytes] | ForkedProcess | None = field(default=None, init=False, repr=False)

    @property
    def state(self) -> Path:
        """The worker's state folder."""
        return self.folder / self.state_name

    @property
    def pid(self) -> int:
        """Of the worker's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All that the worker has written."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def cgroup_parent(self) -> str:
        """The group that all its runs live below."""
        name = hashlib.sha256(str(self.state / "runtime").encode()).hexdigest()[:12]
        return f"/seatrial/{name}"

    def start(self, *arguments: str) -> None:
        """Start it."""
        token_file = self.folder / "token"
        token_file.write_text(self.token)
        token_file.chmod(0o600)
        words = [
            *("worker", "run", "--registry", self.url, "--token-file", str(token_file)),
            *("--state", str(self.state), "--slots", str(self.slots), "--log-format", "json"),
            *arguments,
        ]
        environment = {"PATH": f"{os.environ['PATH']}:{PATH}"}
        with (self.folder / "log").open("ab") as log:
            if not self.through and can_fork():
                self._process = start_seatrial(words, environment=environment, output=log.fileno())
                return
            self._process = subprocess.Popen(
                [*self.through, sys.executable, "-m", "registry.main", *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def kill(self) -> None:
        """``kill -9``."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """End it, whatever it does. Fine when it does not run."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def left_behind(self) -> list[str]:
        """Everything of its runs that stays on the host: mounts, groups, containers, folders, files."""
        # The kernel lets go of a loop device, and of a mount that was detached, in its own time.
        deadline = time.monotonic() + 30
        while (found := self._left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _left(self) -> list[str]:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found = [line for line in mounts if str(self.folder) in line]
        found += [f"group {name}" for name in group_names(find_cgroups(), self.cgroup_parent)]
        for name in ("runtime", "runs"):
            if (self.state / name).is_dir():
                found += [f"{name} {entry.name}" for entry in (self.state / name).iterdir()]
        found += [f"unfinished {path.name}" for path in self.state.rglob("*.tmp")]
        loops = Path("/sys/block").glob("loop*/loop/backing_file")
        found += [f"loop {path}" for path in loops if str(self.folder) in _text(path)]
        return found


@contextmanager
def worker_process(url: str, token: str, *, slots: int = 1) -> Iterator[WorkerProcess]:
    """A worker, not yet started; ended and its folder removed at the end."""
    # Mapped users pass through: pytest's own folders are closed to them.
    folder = Path(tempfile.mkdtemp(prefix="seatrial-worker-"))
    folder.chmod(0o711)
    worker = WorkerProcess(folder, url, token, slots)
    try:
        yield worker
    finally:
        worker.stop()
        shutil.rmtree(folder)


def processes_with(marker: str) -> list[int]:
    """Living processes that have ``marker`` in their command line, but for this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            line = _text(entry / "cmdline")
            if marker in line:
                found.append(int(entry.name))
    return found


def sleepers(marker: str) -> list[int]:
    """Those of them that sleep, and not who started them."""
    return [
        pid for pid in processes_with(marker) if _text(Path(f"/proc/{pid}/cmdline")).startswith("sleep\0")
    ]


def end_sleeps(marker: str) -> bool:
    """End who sleeps for ``marker``, without a word of their shells, and see them gone; whether there was
    anybody."""
    found = sleepers(marker)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGPIPE)
    eventually(lambda: not {*found} & {*sleepers(marker)}, what="they are gone")
    return bool(found)


def eventually(
    check: Callable[[], bool], *, seconds: float = 90.0, what: str, worker: WorkerProcess | None = None
) -> None:
    """Wait until ``check`` holds; else the end of the worker's log is shown.

    Raises:
        AssertionError: it does not within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            log = "" if worker is None else worker.log[-4000:]
            raise AssertionError(f"not within {seconds:g} s: {what}\n{log}")
        time.sleep(0.05)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except (OSError, ValueError):
        return ""
