"""runc, called as a program. Every call has an end, and none copies the container's output."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.runtimes.base import Runtime, RuntimeFailure, RuntimeInfo
from sandbox.runtimes.holes import RUNC_HOLES, known_holes

_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CALL_SECONDS = 30.0
_ENV = {"PATH": _SEARCH}
_VERSION = re.compile(r"^runc version (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Runc:
    """One runc with a state folder of its own."""

    info: RuntimeInfo
    state: Path
    cgroup_parent: str
    call_seconds: float = _CALL_SECONDS
    """A call that takes longer is killed."""

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
        document, pid_file = folder / "process.json", folder / "exec.pid"
        document.touch(mode=0o600)
        document.write_text(json.dumps(process), encoding="utf-8")
        self._call(
            folder,
            "exec",
            *("--detach", "--process", str(document), "--pid-file", str(pid_file), run_id),
            output=log_fd,
        )
        return int(pid_file.read_text(encoding="ascii"))

    def delete(self, run_id: str) -> None:
        """As :class:`Runtime` says."""
        if not (self.state / run_id).exists():
            return
        try:
            self._call(None, "delete", "--force", run_id)
        except RuntimeFailure:
            # A state that runc cannot read any more: a crash between its files. Only those are left.
            shutil.rmtree(self.state / run_id, ignore_errors=True)
        if (self.state / run_id).exists():
            raise RuntimeFailure("delete", "its state folder is still there")

    def list_runs(self) -> Sequence[str]:
        """As :class:`Runtime` says. runc keeps one folder for each container."""
        try:
            return sorted(entry.name for entry in self.state.iterdir() if entry.is_dir())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise RuntimeFailure("list", str(error)) from None

    def _call(self, folder: Path | None, call: str, *arguments: str, output: int | None = None) -> None:
        log = (folder or self.state) / f"runc-{call}-{arguments[-1]}.log"
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [str(self.info.path), "--root", str(self.state), "--log", str(log), "--log-format", "json"]
        process = subprocess.Popen(
            [*command, call, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if output is None else output,
            stderr=subprocess.DEVNULL if output is None else output,
            env=_ENV,
            start_new_session=True,
        )
        try:
            code = process.wait(self.call_seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise RuntimeFailure(call, f"not done after {self.call_seconds:g} s", timed_out=True) from None
        finally:
            text = _errors(log)
            log.unlink(missing_ok=True)
        if code != 0:
            raise RuntimeFailure(call, text or f"exit code {code}")


def find_runc(state: Path, *, path: Path | None = None) -> Runc:
    """The runc at ``path``, else the one found on PATH, or in a folder where systems keep it for root.

    ``state`` is the worker's own folder for runtime state, absolute.

    Raises:
        SandboxError: ``isolation-missing``: there is none, or it does not say its version.
    """
    found = path or shutil.which("runc") or shutil.which("runc", path=_SEARCH)
    if found is None:
        raise SandboxError("isolation-missing", "there is no container runtime: runc is not on PATH")
    try:
        said = subprocess.run(
            [found, "--version"], capture_output=True, text=True, timeout=_CALL_SECONDS, check=True, env=_ENV
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        raise SandboxError("isolation-missing", "runc is there but does not say its version") from None
    match = _VERSION.search(said)
    version = match[1] if match else "unknown"
    info = RuntimeInfo(
        name="runc",
        version=version,
        path=Path(found),
        seccomp="libseccomp:" in said,
        time_namespace=_at_least(version, (1, 2, 0)),
        known_holes=known_holes(version, RUNC_HOLES),
    )
    # From the folder's name, so that a worker finds what it left behind, and never another worker's runs.
    name = hashlib.sha256(str(state).encode()).hexdigest()[:12]
    return Runc(info=info, state=state, cgroup_parent=f"/seatrial/{name}")


def find_runtime(state: Path, *, name: str = "auto", path: Path | None = None) -> Runtime:
    """The runtime that runs are carried out with: ``auto`` or ``runc``, at ``path`` if that is known already.

    Raises:
        SandboxError: ``isolation-missing``: it is not there, or there is no driver for it.
    """
    if name not in ("auto", "runc"):
        raise SandboxError("isolation-missing", f"there is no driver for the runtime {name[:40]!r}; use runc")
    return find_runc(state, path=path)


def _at_least(version: str, wanted: tuple[int, int, int]) -> bool:
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
