"""Work in a process of its own: what only it needs stays in no memory of the one that goes on."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from registry.errors import ConflictError, SeatrialError
from registry.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def do_apart(work: Callable[[], object]) -> None:
    """Have it done by a copy of this process, which has one thread, and wait for its end.

    Raises:
        SettingsError: the work raised one.
        ConflictError: it raised another of our errors.
        SystemExit: it ended in another way, and has said why.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if not pid:
        _work(work, write_fd)
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as told:
        raised = told.read()
    _, status = os.waitpid(pid, 0)
    if raised:
        kind, message = json.loads(raised)
        raise (SettingsError if kind == SettingsError.__name__ else ConflictError)(message)
    if status:
        raise SystemExit(1)


def _work(work: Callable[[], object], told_fd: int) -> NoReturn:
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        work()
        code = 0
    except SeatrialError as error:
        os.write(told_fd, json.dumps([type(error).__name__, error.message]).encode())
    except KeyboardInterrupt:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
