"""Our own seccomp programs: their numbers against the kernel's headers, and what they do to a process."""

from __future__ import annotations

import json
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox.bpf import MACHINES
from sandbox.images.confine import _CLONE, READER_CALLS, WRITER_CALLS
from sandbox.runtimes.outer import JUDGED, REFUSED, make_program

ROOT = Path(__file__).resolve().parents[3]
# Gone from the headers of today; each was in those of Linux 5.
REMOVED = {"vserver", "create_module", "get_kernel_syms", "query_module", "nfsservctl", "_sysctl"}
Numbers = Mapping[str, tuple[int | None, int | None]]


def header_numbers(path: str) -> dict[str, int]:
    text = Path(path).read_text(encoding="ascii")
    # The generic header gives some numbers by way of another name.
    found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)", text, re.MULTILINE)
    return {name: int(number) for name, number in found}


@pytest.mark.parametrize("table", [REFUSED, JUDGED, READER_CALLS, WRITER_CALLS, {"clone": _CLONE}])
def test_numbers_are_those_of_the_headers(table: Numbers) -> None:
    folder = f"/usr/include/{platform.machine()}-linux-gnu/asm"
    intel = header_numbers(f"{folder}/unistd_64.h") if platform.machine() == "x86_64" else {}
    generic = header_numbers("/usr/include/asm-generic/unistd.h")
    alias = {"newfstatat": "fstatat"}
    for name, (x86_64, aarch64) in table.items():
        if intel:
            assert intel.get(name, x86_64 if name in REMOVED else None) == x86_64, name
        expected = generic.get(name, generic.get(alias.get(name, "")))
        assert expected == aarch64 or name in REMOVED, name


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_every_program_ends_and_jumps_within_itself(machine: Any) -> None:
    packed = make_program(machine)
    assert len(packed) % 8 == 0
    steps = [packed[at : at + 8] for at in range(0, len(packed), 8)]
    for place, step in enumerate(steps):
        if step[0] in (0x15, 0x45):
            assert max(step[2], step[3]) < len(steps) - place - 1
    assert steps[-1][0] == 0x06


ATTEMPTS = """
import ctypes, errno, json, os, platform, resource, socket, subprocess, sys, threading
sys.path.insert(0, sys.argv[1])
from sandbox import bpf
from sandbox.runtimes.outer import JUDGED, REFUSED, make_program
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
machine = bpf.this_machine()
bpf.install(make_program(machine))

def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(one) for one in arguments))
    return "OK" if result >= 0 else errno.errorcode[ctypes.get_errno()]

def opened(family, kind=socket.SOCK_STREAM, protocol=0):
    try:
        socket.socket(family, kind, protocol).close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "OK"

def told(level, option):
    try:
        with socket.socket() as one:
            one.setsockopt(level, option, bytes(16))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "OK"

def asked(family, level, option):
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.getsockopt(level, option, 84)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "OK"

keyctl, personality = JUDGED["keyctl"][machine.column], JUDGED["personality"][machine.column]
thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()
master, _ = os.openpty()
room = ctypes.create_string_buffer(8)
print(json.dumps({
    "refused": {name: call(pair[machine.column], 0, 0, 0, 0, 0)
                for name, pair in REFUSED.items() if pair[machine.column] is not None},
    "skipped": call(-1),
    "program": subprocess.run(["true"]).returncode,
    "push input": call(JUDGED["ioctl"][machine.column], master, 0x5412, 0),
    "window size": call(JUDGED["ioctl"][machine.column], master, 0x5413, ctypes.addressof(room)),
    "unix": opened(socket.AF_UNIX), "stream": opened(socket.AF_INET), "stream 6": opened(socket.AF_INET6),
    "datagram": opened(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC),
    "TCP": opened(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 6),
    "SCTP": opened(socket.AF_INET, socket.SOCK_STREAM, 132), "UDP lite": opened(socket.AF_INET6, 2, 136),
    "pair": call(JUDGED["socketpair"][machine.column], socket.AF_UNIX, 1, 0, ctypes.addressof(room)),
    "pair of TIPC": call(JUDGED["socketpair"][machine.column], 30, 1, 0, ctypes.addressof(room)),
    "listener": call(JUDGED["seccomp"][machine.column], 1, 8, 0),
    "filter": call(JUDGED["seccomp"][machine.column], 1, 1, 0),
    "key": told(6, 14), "filter of a socket": told(1, 26), "no delay": told(6, 1), "reuse": told(1, 2),
    "old netfilter": [asked(socket.AF_INET, 0, one) for one in (64, 67, 80, 96, 128)]
    + [asked(socket.AF_INET6, 41, one) for one in (64, 65, 68, 69, 80)],
    "hops": asked(socket.AF_INET, 0, 2), "hops 6": asked(socket.AF_INET6, 41, 16),
    "traffic class": asked(socket.AF_INET6, 41, 67),
    "old netfilter set": told(0, 64),
    "huge": call(JUDGED["mmap"][machine.column], 0, 1 << 21, 1, 0x44022, -1, 0),
    "small": call(JUDGED["mmap"][machine.column], 0, 4096, 1, 0x22, -1, 0),
    "huge file": call(JUDGED["memfd_create"][machine.column], ctypes.addressof(room), 4),
    "small file": call(JUDGED["memfd_create"][machine.column], ctypes.addressof(room), 1),
    "huge and shared": call(JUDGED["shmget"][machine.column], 0, 1 << 21, 0o4600),
    "raw": opened(socket.AF_INET, socket.SOCK_RAW, 1), "raw 6": opened(socket.AF_INET6, socket.SOCK_RAW, 58),
    "routes": opened(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "netfilter": opened(socket.AF_NETLINK, socket.SOCK_RAW, 12),
    "xfrm": opened(socket.AF_NETLINK, socket.SOCK_RAW, 6),
    "packet": opened(socket.AF_PACKET, socket.SOCK_RAW), "vsock": opened(40), "crypto": opened(38, 5),
    "bluetooth": opened(31), "bpf": opened(44),
    "read a key": call(keyctl, 11, 0, 0, 0), "join a keyring": call(keyctl, 1, 0),
    "what personality": call(personality, 0xFFFFFFFF), "no randomisation": call(personality, 0x0040000),
}))
"""


def under_the_program(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", script, str(ROOT)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_refused_and_what_is_not() -> None:
    done = under_the_program(ATTEMPTS)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert set(seen["refused"].values()) == {"ENOSYS"}
    assert len(seen["refused"]) >= 40
    del seen["refused"]
    assert seen == {
        "skipped": "ENOSYS",
        "program": 0,
        "push input": "EPERM",
        "window size": "OK",
        **dict.fromkeys(("unix", "stream", "stream 6", "datagram", "routes", "TCP", "pair"), "OK"),
        **dict.fromkeys(("raw", "raw 6", "SCTP", "UDP lite", "pair of TIPC"), "EPERM"),
        **dict.fromkeys(("netfilter", "xfrm"), "EPROTONOSUPPORT"),
        **dict.fromkeys(("key", "filter of a socket"), "ENOPROTOOPT"),
        "old netfilter": ["EPERM"] * 10,
        "old netfilter set": "EPERM",
        **dict.fromkeys(("hops", "hops 6", "traffic class"), "OK"),
        **dict.fromkeys(("no delay", "reuse", "small", "small file"), "OK"),
        **dict.fromkeys(("huge", "huge file", "huge and shared"), "EPERM"),
        "listener": "EINVAL",
        "filter": "EFAULT",
        **dict.fromkeys(("packet", "vsock", "crypto", "bluetooth", "bpf"), "EAFNOSUPPORT"),
        "read a key": "ENOSYS",
        "join a keyring": "OK",
        "what personality": "OK",
        "no randomisation": "EPERM",
    }


def test_calls_of_another_architecture_kill() -> None:
    script = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
from sandbox import bpf
from sandbox.runtimes.outer import make_program
other = bpf.Machine(0, bpf.this_machine().column)
bpf.install(make_program(other))
"""
    assert under_the_program(script).returncode == -signal.SIGSYS
    x32 = script.replace("make_program(other)", "make_program(bpf.this_machine())")
    x32 += "ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 | 39))\n"
    done = under_the_program(x32)
    assert done.returncode == (-signal.SIGSYS if platform.machine() == "x86_64" else 0)
