"""Seccomp programs of our own, as classic BPF: what they are made of, and how a thread takes one on.

Light on purpose: the confined child imports it. For filters that do not go through a runtime.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sandbox import syscalls as kernel

Instruction = tuple[int, int, int, int]
"""Code, instructions to skip if true, if false, value."""

LOAD, AND, EQUAL, ANY_BIT, GIVE = 0x20, 0x54, 0x15, 0x45, 0x06
NUMBER, ARCHITECTURE = 0, 4
ARGUMENTS = (16, 24, 32, 40, 48, 56)
"""Where the lower half of each argument stands; both known machines are little-endian."""
KILL, ALLOW = 0x80000000, 0x7FFF0000
_ERRNO = 0x00050000
_X32, _SKIPPED = 0x40000000, 0xFFFFFFFF
_SET_SECCOMP, _MODE_FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


@dataclass(frozen=True, slots=True)
class Machine:
    """``audit`` is the kernel's name of the architecture; ``column`` where its numbers stand in our tables,
    which give the number on x86_64 and on aarch64."""

    audit: int
    column: int


MACHINES: Mapping[str, Machine] = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}
"""By what ``uname -m`` says."""


def this_machine() -> Machine:
    """The machine that this process runs on.

    Raises:
        OSError: ENOSYS: its numbers are not known here.
    """
    known = MACHINES.get(platform.machine())
    if known is None:
        raise OSError(errno.ENOSYS, f"no seccomp list for {platform.machine()}")
    return known


def refuse(number: int) -> Instruction:
    """End the program: the call fails with this errno."""
    return (GIVE, 0, 0, _ERRNO | number)


def native_only(machine: Machine) -> list[Instruction]:
    """How each program begins: calls of another architecture (int 0x80, x32) kill the process; then the
    number of the call is loaded."""
    start = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, machine.audit),
        (GIVE, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    if machine.column:
        return start
    # -1 is no call of x32: it is how a tracer skips one.
    return [*start, (EQUAL, 2, 0, _SKIPPED), (ANY_BIT, 0, 1, _X32), (GIVE, 0, 0, KILL)]


def pack(program: Sequence[Instruction]) -> bytes:
    """The program as the kernel reads it."""
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def install(packed: bytes) -> None:
    """Filter the calls of this thread, and of whatever it starts from now on, for ever.

    Raises:
        OSError: the thread may not: it can gain privileges and has not CAP_SYS_ADMIN; or the kernel cannot.
    """
    whole = _Program(len(packed) // 8, packed)
    kernel.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.byref(whole))
