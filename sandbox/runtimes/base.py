"""The seam between a run and the OCI runtime that carries it out.

Everything here blocks; it is called from a run's supervisor process or from a named executor, never from an
event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

DowngradeName = Literal["cgroup-limits", "seccomp"]
DOWNGRADES: Mapping[DowngradeName, str] = {
    "cgroup-limits": "memory, processor and process limits hold for each process, not for the whole run",
    "seccomp": "every system call of the kernel can be reached from inside",
}
"""The isolation an operator may go without, by name, and what that costs. All else is required."""


class RuntimeFailure(Exception):  # noqa: N818  (a result of the runtime, translated by its caller)
    """A call of the runtime failed or did not end in time; ``text`` is what it said, with host paths."""

    def __init__(self, call: str, text: str, *, timed_out: bool = False) -> None:
        super().__init__(f"{call}: {text}")
        self.call = call
        self.text = text
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What is known of a runtime before it runs anything."""

    name: str
    version: str
    path: Path
    kernel: Literal["host", "own"]
    """Whose kernel a run's system calls reach: the host's, or one that the runtime brings along."""
    seccomp: bool
    """Whether it can apply a seccomp filter."""
    time_namespace: bool
    """Whether it knows the time namespace."""
    known_holes: tuple[str, ...]
    """Published holes that this version may have, each with what closes it here."""
    passed_over: tuple[str, ...] = ()
    """Runtimes that policy would rather have, each with why it is not used; empty where one was named."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Runtime(Protocol):
    """One installed OCI runtime with a state folder of its own.

    Two workers never share a state folder: what is listed in it belongs to this worker alone.
    """

    @property
    def info(self) -> RuntimeInfo: ...

    @property
    def state(self) -> Path:
        """Where the runtime keeps its state; short, and on a file system of this host."""
        ...

    @property
    def cgroup_parent(self) -> str:
        """The cgroup below which every run of this state folder lives, as in ``/seatrial/1f2e3d4c``."""
        ...

    def create(self, run_id: str, bundle: Path, *, log_fd: int, pid_file: Path) -> int:
        """Make the container, stopped just before its command; its output goes to ``log_fd``.

        Returns the process id of the container's first process, a descendant of the caller.

        Raises:
            RuntimeFailure: it could not be made, or not in time.
        """
        ...

    def start(self, run_id: str) -> None:
        """Let the command run.

        Raises:
            RuntimeFailure: the command could not be executed.
        """
        ...

    def exec(self, run_id: str, process: Mapping[str, object], *, log_fd: int, folder: Path) -> int:
        """Start another process inside, under the restrictions of ``process``; returns its process id.

        Raises:
            RuntimeFailure: it could not be started, which says nothing about the image.
        """
        ...

    def sender(self, run_id: str) -> Callable[[int], None] | None:
        """How the command gets a signal, where its process is not one of the host; else ``None``."""
        ...

    def forward(self, run_id: str) -> Callable[[int, str], tuple[str, ...]] | None:
        """The command that connects a unix socket, by its path, to a port of the run's loopback, where its
        network is not one of the host; else ``None``."""
        ...

    def delete(self, run_id: str) -> None:
        """Kill and forget the container; one that is not known is fine.

        Raises:
            RuntimeFailure: something of it may be left.
        """
        ...

    def list_runs(self) -> Sequence[str]:
        """Run ids in the state folder, alive or not.

        Raises:
            RuntimeFailure: the list cannot be read.
        """
        ...
