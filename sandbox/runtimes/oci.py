"""An OCI runtime called as a program. Every call has an end, and none copies the container's output.

What runtimes have in common is here; in what they differ is a :class:`Dialect`, one for each in a file of its
own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sandbox import bpf
from sandbox.lsm.apparmor import apparmor_active, begin_unconfined
from sandbox.runtimes.base import RuntimeFailure, RuntimeInfo
from sandbox.runtimes.holes import Hole, known_holes
from sandbox.runtimes.isolation import privileged
from sandbox.runtimes.outer import outer_program

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where systems keep programs for root, whatever the caller's PATH."""
_CALL_SECONDS = 30.0
_ENV = {"PATH": SEARCH}


@dataclass(frozen=True, slots=True)
class Dialect:
    """In what one runtime differs from the others."""

    name: str
    kernel: Literal["host", "own"]
    version: re.Pattern[str]
    """Finds the version, as group 1, in what ``--version`` prints."""
    seccomp: str
    """A text in what ``--version`` prints of one that can filter system calls; empty for always."""
    time_namespace: tuple[int, int, int] | None
    """The first version that knows the time namespace."""
    holes: tuple[Hole, ...]
    newest: str
    """Its versions without any of the holes, in words."""
    run_of: Callable[[str], str]
    """The run id that an entry of the state folder, by name, belongs to; empty for none."""
    strength: Callable[[str | None], int]
    """How strongly one of a version isolates (``None``: the newest); more is better, among all runtimes."""
    flags: tuple[str, ...] = ()
    """What stands before the name of each call."""
    root_only: str = ""
    """What it cannot do for a worker without root; empty: it works for one as well."""
    adds_profile: bool = False
    """Whether it adds the AppArmor profile of a run to what it is under itself, instead of replacing that."""
    before: Callable[[], tuple[str, ...]] = tuple
    """A command on this host that each call is handed to, with its arguments; empty for none."""


@dataclass(frozen=True, slots=True)
class OciRuntime:
    """One installed runtime with a state folder of its own; :class:`Runtime` says what each call does."""

    info: RuntimeInfo
    dialect: Dialect
    state: Path
    call_seconds: float = _CALL_SECONDS
    """A call that takes longer is killed."""

    @property
    def cgroup_parent(self) -> str:
        """As :class:`Runtime` says. From the folder's name, so that a worker finds what it left behind, and
        never another worker's runs."""
        return f"/seatrial/{hashlib.sha256(str(self.state).encode()).hexdigest()[:12]}"

    def create(self, run_id: str, bundle: Path, *, log_fd: int, pid_file: Path) -> int:
        """As :class:`Runtime` says."""
        self._call(
            bundle,
            "create",
            *("--bundle", str(bundle), "--pid-file", str(pid_file), run_id),
            output=log_fd,
        )
        return int(pid_file.read_text(encoding="ascii"))

    def start(self, run_id: str) -> None:
        """As :class:`Runtime` says."""
        self._call(None, "start", run_id)

    def exec(self, run_id: str, process: Mapping[str, object], *, log_fd: int, folder: Path) -> int:
        """As :class:`Runtime` says. Detached, so that the process becomes a child of the subreaper and its
        exit code is not mixed up with the runtime's own."""
        # Several may be started at once, each by a process of its own.
        document, pid_file = folder / f"exec-{os.getpid()}.json", folder / f"exec-{os.getpid()}.pid"
        document.touch(mode=0o600)
        document.write_text(json.dumps(process), encoding="utf-8")
        self._call(
            folder,
            "exec",
            *("--detach", "--process", str(document), "--pid-file", str(pid_file), run_id),
            output=log_fd,
        )
        return int(pid_file.read_text(encoding="ascii"))

    def sender(self, run_id: str) -> Callable[[int], None] | None:
        """As :class:`Runtime` says."""
        if self.info.kernel == "host":
            return None

        def send(number: int) -> None:
            # One that has ended meanwhile gets none.
            with suppress(RuntimeFailure):
                self._call(None, "kill", run_id, str(number))

        return send

    def forward(self, run_id: str) -> Callable[[int, str], tuple[str, ...]] | None:
        """As :class:`Runtime` says."""
        if self.info.kernel == "host":
            return None
        command = (str(self.info.path), "--root", str(self.state), *self.dialect.flags, "port-forward")
        return lambda port, path: (*command, "--stream", path, run_id, str(port))

    def delete(self, run_id: str) -> None:
        """As :class:`Runtime` says."""
        if not self._entries(run_id):
            return
        # A state that the runtime cannot read any more, by a crash between its files: only those are left.
        with suppress(RuntimeFailure):
            self._call(None, "delete", "--force", run_id)
        for entry in self._entries(run_id):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if self._entries(run_id):
            raise RuntimeFailure("delete", "its state is still there")

    def list_runs(self) -> Sequence[str]:
        """As :class:`Runtime` says."""
        try:
            names = [entry.name for entry in self.state.iterdir()]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise RuntimeFailure("list", str(error)) from None
        return sorted({run_id for name in names if (run_id := self.dialect.run_of(name))})

    def _entries(self, run_id: str) -> list[Path]:
        try:
            return [entry for entry in self.state.iterdir() if self.dialect.run_of(entry.name) == run_id]
        except FileNotFoundError:
            return []

    def _call(self, folder: Path | None, call: str, *arguments: str, output: int | None = None) -> None:
        log = (folder or self.state) / f".{call}-{arguments[-1]}-{os.getpid()}.log"
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [
            *self.dialect.before(),
            *(str(self.info.path), "--root", str(self.state), "--log", str(log), "--log-format", "json"),
            *self.dialect.flags,
        ]

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [*command, call, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if output is None else output,
                stderr=subprocess.DEVNULL if output is None else output,
                env=_ENV,
                # So that it can be killed with what it started. No session: to the scheduler of a busy host
                # each new one is a newcomer that waits.
                process_group=0,
            )

        # What such a call leaves behind is of the image, and inherits this.
        process = start() if output is None else self._from_thread(call, start)
        ended = ends_within(process.pid, self.call_seconds)
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        text = _errors(log)
        log.unlink(missing_ok=True)
        if not ended:
            raise RuntimeFailure(call, f"not done after {self.call_seconds:g} s", timed_out=True)
        if code != 0:
            raise RuntimeFailure(call, text or f"exit code {code}")

    def _from_thread(
        self, call: str, start: Callable[[], subprocess.Popen[bytes]]
    ) -> subprocess.Popen[bytes]:
        """``start`` in a thread of the moment that has taken on what its child then has too.

        With ``preexec_fn`` the child would be a copy of this process, which takes longer than the list.
        """
        program = outer_program(self.info)
        with ThreadPoolExecutor(1, "prepared") as thread:
            if program is not None:
                try:
                    thread.submit(bpf.install, program).result()
                except OSError:
                    raise RuntimeFailure(
                        call, "the kernel takes no list of refusals from this worker"
                    ) from None
            if self.dialect.adds_profile and privileged() and apparmor_active():
                thread.submit(begin_unconfined).result()
            return thread.submit(start).result()


def ends_within(pid: int, seconds: float) -> bool:
    """Wait for the end of a child that is not reaped yet; Popen.wait looks at intervals of up to 50 ms."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(pidfd)


def inspect_program(dialect: Dialect, path: Path) -> RuntimeInfo:
    """What the program at ``path`` says about itself.

    Raises:
        RuntimeFailure: it does not say its version.
    """
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_CALL_SECONDS, check=True, env=_ENV
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        raise RuntimeFailure("--version", f"{dialect.name} is there but does not say its version") from None
    match = dialect.version.search(said)
    version = match[1] if match else "unknown"
    known = dialect.time_namespace
    return RuntimeInfo(
        name=dialect.name,
        version=version,
        path=path,
        kernel=dialect.kernel,
        seccomp=dialect.seccomp in said,
        time_namespace=known is not None and at_least(version, known),
        known_holes=known_holes(version, dialect.holes),
    )


def at_least(version: str, wanted: tuple[int, int, int]) -> bool:
    """Whether a version that begins as ``1.2.3`` is ``wanted`` or newer; one that does not is not."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return match is not None and tuple(int(part) for part in match.groups()) >= wanted


def _errors(log: Path) -> str:
    found = []
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            for line in file.read(256 * 1024).splitlines():
                with suppress(ValueError):
                    entry = json.loads(line)
                    if isinstance(entry, dict) and entry.get("level") in ("error", "fatal"):
                        found.append(str(entry.get("msg")))
    except OSError:
        return ""
    return "; ".join(dict.fromkeys(found))[:2000]
