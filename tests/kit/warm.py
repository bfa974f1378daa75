"""``seatrial`` as a process of its own that need not import anything first: forked from one that has.

A new process takes a second of a processor to import a registry, and tests start hundreds. What is forked
is as real: it has its own id, environment, folder and descriptors, runs ``registry.main.main`` from its first
line and ends as Python ends, but for taking apart each module, which would copy all of a forked process's
memory and take three times as long as most commands. ``python -m tests.kit.warm`` forks them, one for each
process of tests.

It forks only what would find itself where this process of tests began. A test that has moved elsewhere (into
a namespace or a group, under other limits) or adopts what runs below it is told so, and starts a new process.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tests.kit.sources import ROOT

_PR_SET_PDEATHSIG, _PR_GET_CHILD_SUBREAPER = 1, 37
_MESSAGE_BYTES = 1 << 16
_START_SECONDS = 120
_COMMAND_SECONDS = 240
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")
_STATUS = re.compile(r"^(Uid|Gid|Groups|Cap\w+|NoNewPrivs|Seccomp|SigIgn|Cpus_allowed):.*$", re.MULTILINE)
_LATE = (
    "registry.cli.serve", "registry.cli.process", "registry.cli.upgrading", "registry.http.logs",
    "registry.storage.s3", "registry.db.migrate", "alembic.command", "aiosqlite", "uvloop", "psycopg",
    "sandbox.cli.worker", "sandbox.worker", "sandbox.workplace", "sandbox.metrics", "sandbox.promises",
    "sandbox.scanners.layers",
    "registry.cli.backup", "registry.cli.backupwork", "registry.cli.trial", "registry.cli.repo",
)  # fmt: skip
"""What ``serve``, ``worker run`` and most commands import when they are asked for."""


class ForkedProcess:
    """As :class:`subprocess.Popen`, so far as tests need it. ``channel`` says how the process has ended."""

    def __init__(self, pid: int, pidfd: int, channel: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = pidfd
        self._channel = channel

    def send_signal(self, number: int) -> None:
        """Send it a signal; none where it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9``."""
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended: that of a signal is negative.

        Raises:
            subprocess.TimeoutExpired: it has not, so many seconds from now.
        """
        if self.returncode is None:
            looked = select.poll()  # not select, which takes no descriptor above 1023
            looked.register(self._channel, select.POLLIN)
            if not looked.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("seatrial", timeout or 0)
            # Where the one that forked it is gone, it has gone with it.
            self.returncode = int(self._channel.recv(_MESSAGE_BYTES) or -signal.SIGKILL)
            self._channel.close()
            os.close(self._pidfd)
        return self.returncode


class _Warm:
    """The one that forks, started when it is first needed, and again where it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def ask(self, message: bytes, fds: Sequence[int]) -> None:
        """Have it fork once; ``fds`` go to the one that is forked."""
        with self._lock:
            if self._control is not None:
                with suppress(BrokenPipeError, ConnectionResetError):
                    socket.send_fds(self._control, [message], fds)
                    return
            socket.send_fds(self._start(), [message], fds)

    def _start(self) -> socket.socket:
        if self._process is not None and self._control is not None:
            self._control.close()
            self._process.wait(_START_SECONDS)
        # Where our end is closed, as it is when this process ends, that one ends.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with theirs:
            command = [sys.executable, "-m", "tests.kit.warm"]
            self._process = subprocess.Popen(command, stdin=theirs, env=kept, cwd=ROOT)
        return self._control


@cache
def _warm() -> _Warm:
    return _Warm()


def _surroundings() -> tuple[object, ...]:
    """What a process that this thread starts has from it, beside what it is given by name."""
    own = Path("/proc/thread-self")
    subreaper = ctypes.c_int()
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(subreaper), 0, 0, 0)
    return (
        {name: (own / "ns" / name).readlink() for name in os.listdir(own / "ns")},
        (own / "root").readlink(),
        *((own / name).read_text() for name in ("cgroup", "limits", "oom_score_adj")),
        [found.group() for found in _STATUS.finditer((own / "status").read_text())],
        os.nice(0),
        subreaper.value,
    )


_AT_FIRST = _surroundings()
"""As they are before the first test."""


def can_fork() -> bool:
    """Whether what was forked would find itself where a new process would."""
    return _surroundings() == _AT_FIRST


def start_seatrial(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    output: int,
    errors: int | None = None,
    ready: int | None = None,
    folder: Path | None = None,
) -> ForkedProcess:
    """Start ``seatrial`` with these arguments, in this folder and with nothing of this process's environment.

    ``output`` is where it writes to, and ``errors``, where given, what it writes what is no output to;
    ``ready`` is a descriptor that is its ``--ready-fd``.
    """
    umask = re.search(r"^Umask:\t(\d+)$", Path("/proc/thread-self/status").read_text(), re.MULTILINE)
    assert umask is not None
    told = {
        "arguments": [*arguments],
        "environment": {**environment},
        "folder": str(folder or Path.cwd()),
        "umask": int(umask.group(1), 8),
    }
    for _ in range(2):  # the one that forks may be dying
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            others = (output if errors is None else errors, *(() if ready is None else (ready,)))
            fds = [theirs.fileno(), output, *others]
            _warm().ask(json.dumps(told).encode(), fds)
        channel.settimeout(_START_SECONDS)
        pid, received, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, 1)
        if pid:
            os.set_inheritable(received[0], False)
            return ForkedProcess(int(pid), received[0], channel)
        channel.close()
    raise AssertionError("who was to start it has ended, twice")


def run_seatrial(
    *arguments: str, environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as :func:`start_seatrial` starts it; what it wrote is text."""
    with TemporaryFile() as output, TemporaryFile() as errors:
        process = start_seatrial(
            arguments,
            environment=environment,
            output=output.fileno(),
            errors=errors.fileno(),
            folder=folder,
        )
        code = process.wait(_COMMAND_SECONDS)
        told = []
        for file in (output, errors):
            file.seek(0)
            told.append(file.read().decode())
    return subprocess.CompletedProcess(arguments, code, *told)


def fork_on_demand() -> bool:
    """Fork for each message on standard input. True in each that was forked, with all in place for
    ``main``; False once nobody is there to ask."""
    control = socket.socket(fileno=0)
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # A signal of the terminal's is for the tests.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    assert len(os.listdir("/proc/self/task")) == 1, "a thread would be missing in what is forked"
    channels: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _tell_who_ended(channels)
        if control not in ready:
            continue
        message, fds, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 4)
        if not message:
            return False
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for one in channels.values():
                one.close()
            for fd in (control.detach(), wake_read, wake_write):
                os.close(fd)
            _become(json.loads(message), fds)
            return True
        channels[pid] = socket.socket(fileno=fds[0])
        # It is not reaped before: the number is still its own.
        pidfd = os.pidfd_open(pid)
        with suppress(BrokenPipeError):
            socket.send_fds(channels[pid], [str(pid).encode()], [pidfd])
        for fd in (pidfd, *fds[1:]):
            os.close(fd)


def _tell_who_ended(channels: dict[int, socket.socket]) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with channels.pop(pid) as channel, suppress(BrokenPipeError):
                channel.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(told: dict[str, Any], fds: list[int]) -> None:
    """Have what a new process of that command has, and nothing of the one that this was forked from."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number, handler in ((signal.SIGCHLD, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        signal.signal(number, handler)
    channel, output, errors, *ready = fds
    os.close(channel)
    # The way to who asked was there, and is closed.
    assert os.open(os.devnull, os.O_RDONLY) == 0
    os.set_inheritable(0, True)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    for fd in (output, errors):
        os.close(fd)
    os.umask(told["umask"])
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["environment"])
    time.tzset()
    sys.argv[1:] = [*told["arguments"], *(word for fd in ready for word in ("--ready-fd", str(fd)))]


def run_to_its_end(command: Callable[[], None]) -> None:
    """Run it, and where it ends with an exit code do what Python does then, but for freeing its memory."""
    try:
        command()
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        with suppress(OSError):  # what cannot be written Python finds once more, and tells
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and not stream.closed:
                    stream.flush()
            os._exit(ended.code or 0)
        raise


if __name__ == "__main__":
    from aiohttp import web

    from registry.http.api import table
    from registry.main import main
    from registry.pages import table as pages
    from tests.kit.modelsonce import read_models

    for late in _LATE:
        importlib.import_module(late)
    for routes in (table, pages):  # so that what is read of them once is read here
        routes.add_routes(web.Application())
    read_models()
    if fork_on_demand():
        run_to_its_end(main)
