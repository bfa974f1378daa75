"""An assembler for the programs of a fence: a few dozen instructions need no compiler.

The kernel's verifier looks at each program before it takes one, so a mistake here is an error, not a hole.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field

LOOKUP, UPDATE, NETNS_COOKIE = 1, 2, 122
"""Helpers of the kernel, by number."""
R0, R1, R2, R3, R4, R6, R7, R8, R9, FRAME = 0, 1, 2, 3, 4, 6, 7, 8, 9, 10


@dataclass(slots=True)
class Assembler:
    """Instructions in order. A jump names a label that stands further down."""

    _code: list[tuple[int, int, int, int | str, int]] = field(default_factory=list)
    _labels: dict[str, int] = field(default_factory=dict)

    def label(self, name: str) -> None:
        """What jumps to ``name`` goes on here."""
        self._labels[name] = len(self._code)

    def move(self, to: int, source: int) -> None:
        """All 64 bits of a register."""
        self._add(0xBF, to, source)

    def set(self, to: int, value: int) -> None:
        """A register becomes a small number."""
        self._add(0xB7, to, 0, 0, value)

    def load64(self, to: int, value: int, *, is_map: bool = False) -> None:
        """A register becomes a 64-bit number, or the map of this descriptor."""
        self._add(0x18, to, 1 if is_map else 0, 0, _signed(value & 0xFFFFFFFF))
        self._add(0, 0, 0, 0, _signed(value >> 32))

    def load(self, to: int, base: int, offset: int) -> None:
        """A register becomes the 32 bits at ``base`` + ``offset``."""
        self._add(0x61, to, base, offset)

    def store(self, base: int, offset: int, source: int) -> None:
        """The low 32 bits of a register go to ``base`` + ``offset``."""
        self._add(0x63, base, source, offset)

    def store64(self, base: int, offset: int, value: int) -> None:
        """A small number goes to the 64 bits at ``base`` + ``offset``."""
        self._add(0x7A, base, 0, offset, value)

    def mask(self, register: int, bits: int) -> None:
        """The low 32 bits and ``bits``; the high ones become 0."""
        self._add(0x54, register, 0, 0, _signed(bits))

    def add(self, register: int, value: int) -> None:
        """Add a small number."""
        self._add(0x07, register, 0, 0, value)

    def count(self, base: int) -> None:
        """Add 1 to the 64 bits at ``base``, at once for every processor."""
        self.set(R1, 1)
        self._add(0xDB, base, R1)

    def call(self, helper: int) -> None:
        """Call one of the kernel's helpers."""
        self._add(0x85, 0, 0, 0, helper)

    def jump(self, label: str) -> None:
        """Go on at ``label``."""
        self._add(0x05, 0, 0, label)

    def jump_if(self, register: int, value: int, label: str) -> None:
        """Go on at ``label`` if the low 32 bits are ``value``."""
        self._add(0x16, register, 0, label, _signed(value))

    def jump_unless(self, register: int, value: int, label: str) -> None:
        """Go on at ``label`` if the low 32 bits are not ``value``."""
        self._add(0x56, register, 0, label, _signed(value))

    def jump_if_null(self, register: int, label: str) -> None:
        """Go on at ``label`` if all 64 bits are 0, as a failed lookup's are."""
        self._add(0x15, register, 0, label)

    def jump_if_same(self, register: int, other: int, label: str) -> None:
        """Go on at ``label`` if two registers are equal in all 64 bits."""
        self._add(0x1D, register, other, label)

    def give(self, value: int) -> None:
        """End with this result."""
        self.set(R0, value)
        self._add(0x95, 0, 0)

    def code(self) -> bytes:
        """The program as the kernel takes it."""
        made = bytearray()
        for at, (code, to, source, jump, value) in enumerate(self._code):
            offset = self._labels[jump] - at - 1 if isinstance(jump, str) else jump
            made += struct.pack("=BBhi", code, _registers(to, source), offset, value)
        return bytes(made)

    def _add(self, code: int, to: int, source: int, offset: int | str = 0, value: int = 0) -> None:
        self._code.append((code, to, source, offset, value))


def _signed(bits: int) -> int:
    return bits - (1 << 32) if bits >= 1 << 31 else bits


def _registers(to: int, source: int) -> int:
    return to | source << 4 if sys.byteorder == "little" else to << 4 | source
