"""The one program of the self-test's image: a static ELF file, made here, that needs nothing of the host.

A few hundred bytes of machine code (``scripts/selftest``) carry out a table of steps and print what each of
them answered. So what is tried stands here, in Python, and is the same on every architecture.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

# These stand for more than one system call: as many processes as there may be, up to a number, which then
# wait; so many turns of a loop; printing the answers so far; a byte written into each page between two
# addresses.
_SPECIAL: Mapping[str, int] = MappingProxyType(
    {"forks": 0x10000, "burn": 0x10001, "print": 0x10002, "touch": 0x10003}
)
_LOAD_ADDRESS = 0x400000
_HEADERS_BYTES = 64 + 56
_ANSWER_LETTERS = 16


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture: as ELF names it, its machine code, its numbers of system calls."""

    elf: int
    code: bytes
    calls: Mapping[str, int]


MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        "x86_64": Machine(
            0x3E,
            bytes.fromhex(
                "4881ec008000004889e34989dc4c8d2de4000000498b4500498b7d08498b7510498b55184d8b55204d8b4528"
                "4d8b4d304983c538483d000001007424483d010001007445483d020001007459483d03000100743e0f054989"
                "04244983c408ebb431ed4989feb8390000000f054885c0740f780848ffc54c39f572ea4889e8ebd6b8220000"
                "000f05ebf748ffcf75fb31c0ebc4c607014881c7001000004839f772f131c0ebb14889de488dbb0010000048"
                "8b06b91000000048c1c00488c280e20f80c261881748ffc7ffc975eb4883c6084c39e672da488db300100000"
                "4889fa4829f2bf01000000b8010000000f05e921ffffff0f1f440000"
            ),
            MappingProxyType(
                {
                    "mmap": 9,
                    "getpid": 39,
                    "socket": 41,
                    "connect": 42,
                    "exit": 60,
                    "kill": 62,
                    "getuid": 102,
                    "prctl": 157,
                    "mount": 165,
                    "sethostname": 170,
                    "keyctl": 250,
                    "openat": 257,
                    "unshare": 272,
                    "bpf": 321,
                }
            ),
        ),
        "aarch64": Machine(
            0xB7,
            bytes.fromhex(
                "ff2340d1f3030091f40313aa75080010a80240a9a10a41a9a31242a9a51a40f9b5e2009109fd50d3a90100b4"
                "091d4092c90100b43f0500f1600400543f0900f18004005408000039000440911f0001eba3ffff54000080d2"
                "02000014010000d4808600f8ebffff17160080d2f70300aa200280d2010080d2020080d2030080d2040080d2"
                "881b80d2010000d4e00000b48000f8b7d6060091df0217eba3feff54e00316aaefffff17000080d2010080d2"
                "020080d2030080d2280980d2010000d4faffff17000400f1e1ffff54e5ffff17e90313aa6a0640912b8540f8"
                "0c0280d26bf1cb936d0d4092ad8501914d1500388c0500f161ffff543f0114ebe3feff5461064091420101cb"
                "200080d2080880d2010000d4bfffff17"
            ),
            MappingProxyType(
                {
                    "mount": 40,
                    "openat": 56,
                    "exit": 93,
                    "unshare": 97,
                    "kill": 129,
                    "sethostname": 161,
                    "prctl": 167,
                    "getpid": 172,
                    "getuid": 174,
                    "socket": 198,
                    "connect": 203,
                    "keyctl": 219,
                    "mmap": 222,
                    "bpf": 280,
                }
            ),
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Step:
    """One system call (or ``forks``, ``burn``, ``print``, ``touch``), under a name for its answer.

    An argument that is bytes is handed over as the address of them.
    """

    name: str
    call: str
    arguments: tuple[int | bytes, ...] = ()


def make_program(steps: Sequence[Step], machine: str) -> bytes:
    """The ELF file for ``machine`` (as ``uname -m`` says) that carries out the steps."""
    kind = MACHINES[machine]
    table = _LOAD_ADDRESS + _HEADERS_BYTES + len(kind.code)
    texts_at = table + 56 * len(steps)
    rows, texts = b"", b""
    for step in steps:
        row = [_SPECIAL.get(step.call) or kind.calls[step.call]]
        for argument in step.arguments:
            if isinstance(argument, bytes):
                row.append(texts_at + len(texts))
                texts += argument
            else:
                row.append(argument)
        rows += struct.pack("<7q", *row, *[0] * (7 - len(row)))
    body = kind.code + rows + texts
    size = _HEADERS_BYTES + len(body)
    header = struct.pack(
        "<4sBBBBB7xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 0, 0),
        *(2, kind.elf, 1, _LOAD_ADDRESS + _HEADERS_BYTES, 64, 0, 0),
        *(64, 56, 1, 0, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x1000)
    return header + segment + body


def read_answers(steps: Sequence[Step], output: str) -> dict[str, int] | None:
    """The answer to each step that stands before the first ``print``, by name; negative ones are errnos.

    ``None``: that is no output of such a program.
    """
    names = [step.name for step in steps[: [step.call for step in steps].index("print")]]
    letters = output.strip()
    if len(letters) != _ANSWER_LETTERS * len(names) or not set(letters) <= set("abcdefghijklmnop"):
        return None
    digits = letters.translate(str.maketrans("abcdefghijklmnop", "0123456789abcdef"))
    answers = struct.unpack(f">{len(names)}q", bytes.fromhex(digits))
    return dict(zip(names, answers, strict=True))


def shown_answer(answer: int) -> str:
    """An answer for people: ``EPERM`` where it is an errno, else the number."""
    return errno.errorcode.get(-answer, os.strerror(-answer)) if answer < 0 else str(answer)
