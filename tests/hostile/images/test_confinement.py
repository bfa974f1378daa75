"""What the unpacking child could still do if a layer took it over: its own code is replaced by attempts."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.ids import leased_ids

ROOT = Path(__file__).resolve().parents[3]
ATTACK = """
import sys; sys.path.insert(0, {root!r})
import ctypes, errno, json, os, platform, resource, socket, threading
from sandbox import bpf
from sandbox.images import confine, unpack_child

libc = ctypes.CDLL(None, use_errno=True)

def said(attempt):
    try:
        result = attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except MemoryError:
        return "MemoryError"
    return result if isinstance(result, (int, str, list)) else "OK"

def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(one) for one in arguments])
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "OK"

def descriptors():
    import fcntl
    found = []
    for fd in range(1024):
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
            found.append(fd)
        except OSError:
            pass
    return found

def thread():
    done = []
    one = threading.Thread(target=done.append, args=(1,))
    one.start(); one.join()
    return len(done)

def attempts(task, out):
    inherited = [fd for fd in descriptors() if fd not in (0, 1, 2, out)]
    def big():
        fd = os.open("big", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=out)
        os.lseek(fd, task.max_bytes + 10, 0)
        return os.write(fd, b"x")
    def through_a_link():
        os.symlink({canary!r}, "l", dir_fd=out)
        return os.open("l", 0, dir_fd=out)
    column = bpf.this_machine().column
    allowed = {{pair[column] for pair in confine.WRITER_CALLS.values()}} | {{confine._CLONE[column]}}
    # The kernel lets these two past every filter: they end a process that is not being traced.
    allowed |= {{335, 336}} if platform.machine() == "x86_64" else set()
    os.close(os.open("mine", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=out))
    return {{
        "read the host": said(lambda: open({canary!r}).read()),
        "read passwd": said(lambda: open("/etc/passwd").read()),
        "the root": said(lambda: os.listdir("/")),
        "write the root": said(lambda: os.open("/x", os.O_WRONLY | os.O_CREAT)),
        "climb out of the tree": said(lambda: os.listdir(os.open("../../../..", os.O_RDONLY, dir_fd=out))),
        "climb to a file": said(lambda: os.open("../canary/file", os.O_RDONLY, dir_fd=out)),
        "through a link": said(through_a_link),
        "socket": said(lambda: socket.socket()),
        "unix socket": said(lambda: socket.socketpair()),
        "fork": said(os.fork),
        "exec": said(lambda: os.execv("/proc/self/exe", ["x"])),
        "kill": said(lambda: os.kill(1, 0)),
        "device": said(lambda: os.mknod("dev", 0o020666, os.makedev(1, 3), dir_fd=out)),
        "pipe": said(lambda: os.mkfifo("fifo", dir_fd=out)),
        "owner out of range": said(lambda: os.chown("mine", 70000, 0, dir_fd=out)),
        "owner in range": said(lambda: os.chown("mine", 33, 33, dir_fd=out)),
        "rename": said(lambda: os.rename("mine", "other", src_dir_fd=out, dst_dir_fd=out)),
        "memory": said(lambda: len(bytearray(2 << 30))),
        "too large a file": said(big),
        "more descriptors": said(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))),
        "environment": sorted(set(os.environ) - {{"LC_CTYPE"}}),
        "descriptors": inherited,
        "identity": [os.getuid(), os.getgid(), os.getpid()],
        "thread": thread(),
        "calls that are not on the list": sorted(
            {{call(n, -1, -1, -1, -1, -1, -1) for n in range(480) if n not in allowed}}
        ),
        "allowed calls": len(allowed),
        "clone of a process": call(confine._CLONE[column], 17, 0, 0, 0, 0),
        "clone of a namespace": call(confine._CLONE[column], 0x10000000 | 17, 0, 0, 0, 0),
    }}

unpack_child._unpack = attempts
sys.exit(unpack_child.main(sys.argv[1]))
"""


@pytest.mark.parametrize("below", [False, True])
async def test_a_child_that_was_taken_over(below: bool, tmp_path: Path, canary: Path) -> None:
    work, lower = tmp_path / "work", tmp_path / "lower"
    for name in ("fs", "work", "mnt"):
        (work / name).mkdir(parents=True)
    lower.mkdir()
    with leased_ids() as ids:
        task = {
            "parent_pid": os.getpid(),
            "work": str(work),
            "lower": [str(lower)] if below else [],
            "base": ids.base,
            "size": ids.size,
            "mapped": True,
            "userxattr": False,
            "algorithm": "sha256",
            "max_bytes": 1 << 20,
            "max_files": 100,
            "reserve_bytes": 0,
            "cpu_seconds": 20,
        }
        seen = await _run(ATTACK.format(root=str(ROOT), canary=str(canary / "file")), task)
    out_of_reach = {
        "read the host": "ENOENT",
        "read passwd": "ENOENT",
        "write the root": "EROFS",
        "socket": "ENOSYS",
        "unix socket": "ENOSYS",
        "fork": "EPERM",
        "exec": "ENOSYS",
        "kill": "ENOSYS",
        "device": "ENOSYS",
        "pipe": "ENOSYS",
        "owner out of range": "EINVAL",
        "rename": "ENOSYS",
        "memory": "MemoryError",
        "too large a file": "EFBIG",
        "more descriptors": "ENOSYS",
        "clone of a process": "EPERM",
        "clone of a namespace": "EPERM",
        "climb to a file": "ENOENT",
        "through a link": "ENOENT",
    }
    for attempt, answer in out_of_reach.items():
        # Landlock, where it is, refuses some of these before the empty root does.
        assert seen[attempt] in (answer, "EACCES"), attempt
    assert seen["the root"] in ([], "EACCES")
    assert set(seen["climb out of the tree"]) <= {"mine", "fs", "work", "mnt"} - {"fs", "work", "mnt"}
    assert seen["owner in range"] == "OK"
    assert seen["environment"] == []
    assert seen["descriptors"] == []
    assert seen["identity"] == [0, 0, 1]
    assert seen["thread"] == 1
    assert seen["calls that are not on the list"] == ["ENOSYS"]
    assert seen["allowed calls"] < 70
    assert seen["landlock"] is _kernel_has_landlock()


def _kernel_has_landlock() -> bool:
    ask_for_version = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return bool(ask_for_version > 0)


async def _run(program: str, task: dict[str, object]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        program,
        json.dumps(task),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    answer: dict[str, Any] = json.loads(out)
    return answer
