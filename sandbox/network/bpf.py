"""The little of bpf(2) that a fence around a control group needs: a map, programs, and where they hang.

Calls raise ``OSError`` with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sandbox.syscalls import syscall

CGROUP_SOCK, CGROUP_SOCK_ADDR = 9, 18
SOCK_CREATE, CONNECT4, CONNECT6, SENDMSG4, SENDMSG6 = 2, 10, 11, 14, 15

_NUMBERS: Mapping[str, int] = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "ppc64le": 361,
    "s390x": 351,
}
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_NEXT_KEY = 0, 1, 2, 4
_PROG_LOAD, _PROG_ATTACH, _OBJ_INFO, _PROG_QUERY = 5, 8, 15, 16
_HASH_MAP = 1
_ALLOW_MULTI = 2
_QUERY_EFFECTIVE = 1
_ATTR_BYTES = 128
_MAX_PROGRAMS = 64


@dataclass(frozen=True, slots=True)
class CountMap:
    """From keys to how often each was seen."""

    fd: int
    key_bytes: int

    def put(self, key: bytes, value: int) -> None:
        """Set one entry."""
        name, number = ctypes.create_string_buffer(key, self.key_bytes), ctypes.c_uint64(value)
        _bpf(_MAP_UPDATE, "=IIQQQ", self.fd, 0, ctypes.addressof(name), ctypes.addressof(number), 0)

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Every entry, in no order."""
        key, after = (ctypes.create_string_buffer(self.key_bytes) for _ in range(2))
        number = ctypes.c_uint64()
        at = 0
        while True:
            try:
                _bpf(_MAP_NEXT_KEY, "=IIQQ", self.fd, 0, at, ctypes.addressof(after))
            except FileNotFoundError:
                return
            key.raw = after.raw
            at = ctypes.addressof(key)
            _bpf(_MAP_LOOKUP, "=IIQQQ", self.fd, 0, at, ctypes.addressof(number), 0)
            yield key.raw, number.value


def make_count_map(*, key_bytes: int, entries: int) -> CountMap:
    """An empty map that takes ``entries`` keys and no more."""
    return CountMap(_bpf(_MAP_CREATE, "=IIIII", _HASH_MAP, key_bytes, 8, entries, 0), key_bytes)


def load_program(code: bytes, *, kind: int, attach: int) -> int:
    """Hand a program to the kernel; a file descriptor."""
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    where = (ctypes.addressof(instructions), ctypes.addressof(licence))
    rest = (0, 0, 0, 0, 0, b"seatrial", 0, attach)
    return _bpf(_PROG_LOAD, "=IIQQIIQII16sII", kind, len(code) // 8, *where, *rest)


def attach_program(program: int, group: int, attach: int) -> None:
    """Let the program decide for the control group of this descriptor, beside those above it."""
    _bpf(_PROG_ATTACH, "=IIII", group, program, attach, _ALLOW_MULTI)


def program_id(program: int) -> int:
    """The kernel's number of a loaded program."""
    info = ctypes.create_string_buffer(64)
    _bpf(_OBJ_INFO, "=IIQ", program, len(info), ctypes.addressof(info))
    return int.from_bytes(info.raw[4:8], sys.byteorder)


def effective_programs(group: int, attach: int) -> frozenset[int]:
    """Numbers of the programs that decide for the group, its own and those above it."""
    found = (ctypes.c_uint32 * _MAX_PROGRAMS)()
    attr = ctypes.create_string_buffer(
        struct.pack(
            "=IIIIQI", group, attach, _QUERY_EFFECTIVE, 0, ctypes.addressof(found), _MAX_PROGRAMS
        ).ljust(_ATTR_BYTES, b"\0"),
        _ATTR_BYTES,
    )
    _call(_PROG_QUERY, attr)
    (count,) = struct.unpack_from("=I", attr.raw, 24)
    return frozenset(found[:count])


def _bpf(command: int, form: str, *values: object) -> int:
    return _call(command, ctypes.create_string_buffer(struct.pack(form, *values).ljust(_ATTR_BYTES, b"\0")))


def _call(command: int, attr: ctypes.Array[ctypes.c_char]) -> int:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf: not known on {platform.machine()}")
    return syscall(number, command, ctypes.byref(attr), _ATTR_BYTES, what="bpf")
