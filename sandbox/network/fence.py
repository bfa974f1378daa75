"""The second layer behind a run's network namespace: programs in the kernel that look at the control group.

Where a process stands and not where it looks decides: a process of the run can make an internet socket in the
run's own network namespace only, so one that got into another (or was never put into its own) sends nothing.
The same place sees every address that is asked for, which is how attempts to reach the outside are counted,
and, where the run has permission for some of it, refuses all the rest.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from registry.contract.report import Outbound
from sandbox.network import bpf
from sandbox.network.assembler import (
    FRAME,
    LOOKUP,
    NETNS_COOKIE,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    UPDATE,
    Assembler,
)
from sandbox.network.permits import PROTOCOLS, Destination
from sandbox.syscalls import CLONE_NEWNET, enter

MAX_ATTEMPTS = 64
"""Addresses that are told apart; what comes after them is one number."""
_SO_NETNS_COOKIE = 71
_KEY = struct.Struct("=16sII")
_OTHERS = bytes(_KEY.size)
_MAPPED = bytes(10) + b"\xff\xff"
_SOCK_PROTOCOL = 12  # struct bpf_sock
_PLAIN_PROTOCOLS = (6, 17, 1, 58)
# struct bpf_sock_addr
_IP4, _IP6, _PORT, _PROTOCOL = 4, 8, 24, 36


@dataclass(slots=True)
class Fence:
    """The programs around one control group; they last as long as the group does."""

    _attempts: bpf.CountMap
    _permitted: Sequence[Destination]

    def outbound(self) -> tuple[Outbound, ...]:
        """What the run tried to reach beyond its loopback, most often first."""
        found = []
        for key, times in self._attempts.items():
            address, port, protocol = _KEY.unpack(key)
            if not times:
                continue
            ip = IPv4Address(address[12:]) if address.startswith(_MAPPED) else IPv6Address(address)
            others = key == _OTHERS
            found.append(
                Outbound(
                    address="others" if others else str(ip),
                    port=socket.ntohs(port & 0xFFFF),
                    protocol={number: name for name, number in PROTOCOLS.items()}.get(protocol, "other"),
                    attempts=times,
                    permitted=any(
                        one.covers(ip, socket.ntohs(port & 0xFFFF), protocol) for one in self._permitted
                    ),
                )
            )
        return tuple(sorted(found, key=lambda one: (-one.attempts, one.address, one.port)))


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Be in this network namespace; for a process with a single thread."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(namespace, CLONE_NEWNET)
        try:
            yield
        finally:
            enter(own, CLONE_NEWNET)
    finally:
        os.close(own)


def prove_fence() -> str | None:
    """Load the programs without putting them anywhere; why that fails, or ``None``."""
    try:
        attempts = bpf.make_count_map(key_bytes=_KEY.size, entries=1)
        try:
            own = _cookie()
            code = _watching(_look_at_ip6, attempts.fd, ())
            for kind, attach, program in (
                (bpf.CGROUP_SOCK_ADDR, bpf.CONNECT6, code),
                (bpf.CGROUP_SOCK, bpf.SOCK_CREATE, _only_in(own, own)),
            ):
                os.close(bpf.load_program(program, kind=kind, attach=attach))
        finally:
            os.close(attempts.fd)
    except OSError as error:
        return str(error)
    return None


def raise_fence(group: Path, namespace: int, *, permitted: Sequence[Destination] | None) -> Fence:
    """Put the programs around ``group``, a folder of cgroup version 2 that all of the run is in.

    ``namespace`` is the run's own; ``permitted`` is ``None`` for a run without any network, whose attempts
    are counted and left to fail as they do without a network.

    Raises:
        OSError: the kernel will not have one of them, or does not have them afterwards.
    """
    worker = _cookie()
    with inside(namespace):
        own = _cookie()
    attempts = bpf.make_count_map(key_bytes=_KEY.size, entries=MAX_ATTEMPTS + 1)
    attempts.put(_OTHERS, 0)
    look = {
        bpf.CONNECT4: _look_at_ip4,
        bpf.SENDMSG4: _look_at_ip4,
        bpf.CONNECT6: _look_at_ip6,
        bpf.SENDMSG6: _look_at_ip6,
    }
    codes = {
        kind: (bpf.CGROUP_SOCK_ADDR, _watching(one, attempts.fd, permitted)) for kind, one in look.items()
    }
    codes[bpf.SOCK_CREATE] = (bpf.CGROUP_SOCK, _only_in(own, worker))
    with ExitStack() as stack:
        folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, folder)
        for attach, (kind, code) in codes.items():
            program = bpf.load_program(code, kind=kind, attach=attach)
            stack.callback(os.close, program)
            bpf.attach_program(program, folder, attach)
            if bpf.program_id(program) not in bpf.effective_programs(folder, attach):
                raise OSError(0, "the kernel does not have the program it was given")
    return Fence(attempts, permitted or ())


def _cookie() -> int:
    """The kernel's number of the network namespace that the calling process is in; never used again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return int.from_bytes(one.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)


def _only_in(own: int, worker: int) -> bytes:
    """An internet socket is made in the run's network namespace, or not at all; and it is of a kind whose
    addresses the other programs see (those of multipath TCP they do not)."""
    code = Assembler()
    code.move(R6, R1)
    code.call(NETNS_COOKIE)
    code.load64(R1, worker)
    code.jump_if_same(R0, R1, "deny")
    code.load64(R1, own)
    code.jump_if_same(R0, R1, "own")
    code.jump("deny")
    code.label("own")
    code.load(R2, R6, _SOCK_PROTOCOL)
    for protocol in _PLAIN_PROTOCOLS:
        code.jump_if(R2, protocol, "allow")
    code.label("deny")
    code.give(0)
    code.label("allow")
    code.give(1)
    return code.code()


def _watching(
    look: Callable[[Assembler], None], attempts: int, permitted: Sequence[Destination] | None
) -> bytes:
    """Count what is beyond loopback, and let pass what is permitted. R6 is the context, R7 port, R8 protocol;
    the last four bytes of an IPv4 address are in R9."""
    code = Assembler()
    code.move(R6, R1)
    code.load(R7, R6, _PORT)
    code.load(R8, R6, _PROTOCOL)
    code.store64(FRAME, -24, 0)
    code.store64(FRAME, -16, 0)
    look(code)
    code.label("ip4")
    code.move(R2, R9)
    code.mask(R2, _word(b"\xff\0\0\0"))
    code.jump_if(R2, _word(b"\x7f\0\0\0"), "allow")
    # The unspecified address is the own machine.
    code.jump_if(R9, 0, "allow")
    code.set(R2, 0)
    code.store(FRAME, -24, R2)
    code.store(FRAME, -20, R2)
    code.load64(R2, _word(b"\0\0\xff\xff"))
    code.store(FRAME, -16, R2)
    code.store(FRAME, -12, R9)
    _count(code, attempts, "4")
    for number, one in enumerate(permitted or ()):
        skip = f"not{number}"
        code.move(R2, R9)
        code.mask(R2, _word(one.network.netmask.packed))
        code.jump_unless(R2, _word(one.network.network_address.packed), skip)
        code.jump_unless(R7, socket.htons(one.port), skip)
        code.jump_if(R8, PROTOCOLS[one.protocol], "allow")
        code.label(skip)
    code.give(1 if permitted is None else 0)
    if look is _look_at_ip6:
        code.label("ip6")
        _count(code, attempts, "6")
        code.give(1 if permitted is None else 0)
    code.label("allow")
    code.give(1)
    return code.code()


def _look_at_ip4(code: Assembler) -> None:
    code.load(R9, R6, _IP4)


def _look_at_ip6(code: Assembler) -> None:
    for word in range(4):
        code.load(R9, R6, _IP6 + 4 * word)
        code.store(FRAME, -24 + 4 * word, R9)
    code.load(R2, R6, _IP6)
    code.jump_unless(R2, 0, "ip6")
    code.load(R2, R6, _IP6 + 4)
    code.jump_unless(R2, 0, "ip6")
    code.load(R2, R6, _IP6 + 8)
    code.jump_if(R2, _word(b"\0\0\xff\xff"), "ip4")
    code.jump_unless(R2, 0, "ip6")
    # ::1 and ::
    code.jump_if(R9, _word(b"\0\0\0\1"), "allow")
    code.jump_if(R9, 0, "allow")
    code.jump("ip6")


def _count(code: Assembler, attempts: int, name: str) -> None:
    code.store(FRAME, -8, R7)
    code.store(FRAME, -4, R8)
    _find(code, attempts)
    code.jump_if_null(R0, f"new{name}")
    code.count(R0)
    code.jump(f"counted{name}")
    code.label(f"new{name}")
    code.store64(FRAME, -32, 1)
    code.load64(R1, attempts, is_map=True)
    code.move(R2, FRAME)
    code.add(R2, -24)
    code.move(R3, FRAME)
    code.add(R3, -32)
    code.set(R4, 0)
    code.call(UPDATE)
    code.jump_if_null(R0, f"counted{name}")
    # The map is full.
    for offset in (-24, -16, -8):
        code.store64(FRAME, offset, 0)
    _find(code, attempts)
    code.jump_if_null(R0, f"counted{name}")
    code.count(R0)
    code.label(f"counted{name}")


def _find(code: Assembler, attempts: int) -> None:
    code.load64(R1, attempts, is_map=True)
    code.move(R2, FRAME)
    code.add(R2, -24)
    code.call(LOOKUP)


def _word(four: bytes) -> int:
    return int.from_bytes(four, sys.byteorder)
