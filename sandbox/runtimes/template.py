"""The process that runs' supervisors are forked from: it has imported all they need, and knows nothing.

Started once by a worker, without environment, its standard input one end of a socket pair. For each message
it forks a supervisor on the descriptor that comes with it, with a second one for the output of its run if
there is one, and answers with the supervisor's pidfd. It ends when the other end of the pair is closed; the
supervisors do not, each has a lifeline of its own.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from sandbox.runtimes import supervisor

_CONTROL_FD = 0


def main() -> int:
    """Fork a supervisor for each message, until the worker goes."""
    control = socket.socket(fileno=_CONTROL_FD)
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # What is here now stays, in all of them: it need not be looked at, and so not be copied.
    gc.collect()
    gc.freeze()
    while True:
        ready, _, _ = select.select([control.fileno(), wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap()
        if control.fileno() in ready:
            try:
                message, fds, _, _ = socket.recv_fds(control, 16, 2)
            except ConnectionResetError:  # it went before it took the last answer
                return 0
            if not message:
                return 0
            pid = os.fork()
            if pid == 0:
                _child(fds, (control.detach(), wake_read, wake_write))
            for fd in fds:
                os.close(fd)
            # It is not reaped before: the number is still its own.
            pidfd = os.pidfd_open(pid)
            with suppress(BrokenPipeError):
                socket.send_fds(control, [b"+"], [pidfd])
            os.close(pidfd)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _child(given: Sequence[int], ours: Sequence[int]) -> None:
    """Become the supervisor whose standard input and output is the first of ``given``."""
    channel, *live = given
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in ours:
            os.close(fd)
        os.dup2(channel, 0)
        os.dup2(channel, 1)
        os.close(channel)
        # What ps shows; all have the command line of this one.
        with open("/proc/self/comm", "wb") as name:
            name.write(b"supervisor")
        code = _run(partial(supervisor.main, live[0] if live else None))
    finally:
        os._exit(code)


def _run(program: Callable[[], int]) -> int:
    try:
        return program()
    except Exception:  # the top of a process: its traceback goes to the worker's log
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        return 70


if __name__ == "__main__":
    sys.exit(main())
