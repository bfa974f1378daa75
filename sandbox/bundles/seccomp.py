"""The seccomp filter of every run: an allow list of our own; all else answers ENOSYS.

``scripts/syscalls.toml`` has every call of the kernel with the reason why it is in the list or not.

Native architecture only: a 32-bit or x32 call ends the process, and the filter is half as long. With ENOSYS
libraries fall back to older calls, as they would on an older kernel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib.resources import files
from types import MappingProxyType

from sandbox.errors import SandboxError

_ARCHITECTURES = {
    "x86_64": "SCMP_ARCH_X86_64",
    "aarch64": "SCMP_ARCH_AARCH64",
    "riscv64": "SCMP_ARCH_RISCV64",
    "ppc64le": "SCMP_ARCH_PPC64LE",
    "s390x": "SCMP_ARCH_S390X",
}
_ENOSYS, _EPERM, _ENOMEM, _ENOPROTOOPT, _EPROTONOSUPPORT, _EAFNOSUPPORT = 38, 1, 12, 92, 93, 97
# Every CLONE_NEW* flag that clone takes: time, cgroup, uts, ipc, user, pid, net, and mount.
_CLONE_NEW = 0x7E020080
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _NETLINK_ROUTE = 1, 2, 10, 16, 0
# Type and protocols of the sockets that services open; all else (raw, SCTP, DCCP) would only load modules
# of the host's kernel. ICMP is the ping of plain users.
_SOCKET_TYPE_MASK = 0xF
_STREAM, _DATAGRAM, _RAW, _TCP, _UDP = 1, 2, 3, 6, 17
_INTERNET = (
    *((family, _STREAM, protocol) for family in (_AF_INET, _AF_INET6) for protocol in (0, _TCP)),
    *((family, _DATAGRAM, protocol) for family in (_AF_INET, _AF_INET6) for protocol in (0, _UDP)),
    (_AF_INET, _DATAGRAM, 1),
    (_AF_INET6, _DATAGRAM, 58),
)
# Levels whose options are all allowed: UDP, ICMPv6, raw, netlink, TLS.
_LEVELS = (17, 58, 255, 270, 282)
_SOCKET, _TCP_LEVEL = 1, 6
HELD_OPTIONS: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {_SOCKET: (26, 50, 51, 52), _TCP_LEVEL: (14, 32, 38, 39, 40, 41, 42)}
)
"""By level, the options that have the kernel keep what it counts to no run: filters, which are made into code
of the kernel, and keys of TCP (MD5, AO). 127 is the last number that any level is given."""
_IP, _IPV6, _NETFILTER = 0, 41, 64
# Above the first of netfilter IPv6 has options of its own (traffic class, source choice, hop count).
_IPV6_OPTIONS = (66, 67, 70, 72, 73, 76)
_NODE_TYPE_MASK = 0o170000
# No device: a plain file (also as 0), a FIFO, a socket.
_NODES = (0, 0o100000, 0o010000, 0o140000)
_DEVICES = (0o020000, 0o060000)
# Each of those, for a kernel that compares one by one.
_CLONE_FLAGS = tuple(1 << bit for bit in range(32) if _CLONE_NEW & 1 << bit)
HUGE_PAGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"mmap": (3, 0x40000), "memfd_create": (1, 0x4), "shmget": (2, 0o4000)}
)
"""The calls that ask for huge pages, which no limit of memory counts: in which argument, and by which bit."""
ARGUMENT_CALLS = (
    *("clone", "getsockopt", "memfd_create", "mknod", "mknodat", "mmap", "setsockopt", "shmget"),
    *("socket", "socketpair"),
)
"""The calls that are allowed for some arguments only."""
# What a capability is for, and the list has not.
_CALLS: Mapping[str, tuple[str, ...]] = MappingProxyType({"SYS_CHROOT": ("chroot",)})


def allowed_syscalls() -> tuple[str, ...]:
    """The names that are allowed whatever their arguments, from ``syscalls.txt``."""
    return _names("syscalls.txt")


def opened_syscalls(capabilities: Collection[str]) -> tuple[str, ...]:
    """The names that the list has besides, for who holds these capabilities (without ``CAP_``)."""
    return tuple(call for name, calls in _CALLS.items() if name in capabilities for call in calls)


def _names(file: str) -> tuple[str, ...]:
    text = files("sandbox.bundles").joinpath(file).read_text(encoding="ascii")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def make_seccomp(machine: str, capabilities: Collection[str] = ()) -> dict[str, object]:
    """``linux.seccomp`` for a machine as ``uname -m`` names it, and a run that was given ``capabilities``.

    Raises:
        SandboxError: ``isolation-missing``: there is no list for this machine.
    """
    architecture = _ARCHITECTURES.get(machine)
    if architecture is None:
        raise SandboxError("isolation-missing", f"there is no seccomp list for the architecture {machine!r}")
    # s390x alone hands clone's flags over as the second argument.
    flags_index = 1 if machine == "s390x" else 0
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _ENOSYS,
        "architectures": [architecture],
        "syscalls": [
            {"names": [*allowed_syscalls(), *opened_syscalls(capabilities)], "action": "SCMP_ACT_ALLOW"},
            _allow("clone", _masked(flags_index, _CLONE_NEW, 0)),
            _allow("socket", _equal(0, _AF_UNIX)),
            _allow("socket", _equal(0, _AF_NETLINK), _equal(2, _NETLINK_ROUTE)),
            *(
                _allow("socket", _equal(0, family), _masked(1, _SOCKET_TYPE_MASK, kind), _equal(2, protocol))
                for family, kind, protocol in _INTERNET
            ),
            _allow("socketpair", _equal(0, _AF_UNIX)),
            *(_allow("getsockopt", _equal(1, level)) for level in HELD_OPTIONS),
            *_socket_options("getsockopt"),
            *(
                _allow("setsockopt", _equal(1, level), _masked(2, mask, value))
                for level, refused in HELD_OPTIONS.items()
                for mask, value in _all_but(refused)
            ),
            *_socket_options("setsockopt"),
            *_small_pages(machine),
            *(_allow("mknod", _masked(1, _NODE_TYPE_MASK, kind)) for kind in _NODES),
            *(_allow("mknodat", _masked(2, _NODE_TYPE_MASK, kind)) for kind in _NODES),
            *_familiar_refusals(),
        ],
    }


def kernel_seccomp(capabilities: Collection[str] = ()) -> dict[str, object]:
    """``linux.seccomp`` for a runtime that brings a kernel along: what is refused, by name.

    gVisor answers EPERM to all that a filter does not allow, whatever errno it names; a C library that tries
    a newer call first takes that for the answer, and starts no thread. So what its kernel does not know is
    left to it, which answers ENOSYS.
    """
    opened = opened_syscalls(capabilities)
    refused = [name for name in _names("refused.txt") if name not in opened]
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": refused, "action": "SCMP_ACT_ERRNO"},
            *(_refuse("clone", _EPERM, _masked(0, flag, flag)) for flag in _CLONE_FLAGS),
            *_familiar_refusals(),
        ],
    }


def _socket_options(name: str) -> list[dict[str, object]]:
    """Of the other levels, all but the tables of netfilter. Equal or less only: the kernel looks at the lower
    half of a number, so that one with a bit above would be greater here and forbidden there."""
    return [
        *(_allow(name, _equal(1, level)) for level in _LEVELS),
        *(
            _allow(name, _equal(1, level), _argument(2, "SCMP_CMP_LT", _NETFILTER, 0))
            for level in (_IP, _IPV6)
        ),
        *(_allow(name, _equal(1, _IPV6), _equal(2, option)) for option in _IPV6_OPTIONS),
    ]


def _all_but(refused: tuple[int, ...], first: int = 0, size: int = 128) -> Iterator[tuple[int, int]]:
    """Masks and values that the numbers below 128 have, but for ``refused``."""
    inside = [one for one in refused if first <= one < first + size]
    if not inside:
        yield 0xFFFFFFFF & -size, first
    elif size > 1:
        yield from _all_but(refused, first, size // 2)
        yield from _all_but(refused, first + size // 2, size // 2)


def _small_pages(machine: str) -> Iterator[dict[str, object]]:
    for name, (index, bit) in HUGE_PAGES.items():
        if machine == "s390x" and name == "mmap":
            # It hands over an address of its arguments, which no filter can read.
            yield _allow(name, _argument(0, "SCMP_CMP_GE", 0, 0))
        else:
            yield _allow(name, _masked(index, bit, 0))
            yield _refuse(name, _ENOMEM, _masked(index, bit, bit))


def _familiar_refusals() -> list[dict[str, object]]:
    """Answers that programs know what to do with: su goes on without the audit, ping says what it lacks."""
    socket: list[tuple[int, list[dict[str, object]]]] = [
        (_EPROTONOSUPPORT, [_equal(0, _AF_NETLINK), _argument(2, "SCMP_CMP_NE", _NETLINK_ROUTE, 0)]),
        (_EAFNOSUPPORT, [_argument(0, "SCMP_CMP_GT", _AF_NETLINK, 0)]),
        *(
            (_EPERM, [_equal(0, family), _masked(1, _SOCKET_TYPE_MASK, _RAW)])
            for family in (_AF_INET, _AF_INET6)
        ),
    ]
    nodes = [
        (name, _masked(index, _NODE_TYPE_MASK, kind))
        for name, index in (("mknod", 1), ("mknodat", 2))
        for kind in _DEVICES
    ]
    options = [(level, option) for level, refused in HELD_OPTIONS.items() for option in refused]
    return [
        *(
            _refuse("setsockopt", _ENOPROTOOPT, _equal(1, level), _equal(2, option))
            for level, option in options
        ),
        *(_refuse("socket", number, *arguments) for number, arguments in socket),
        *(_refuse(name, _EPERM, argument) for name, argument in nodes),
    ]


def _refuse(name: str, number: int, *arguments: dict[str, object]) -> dict[str, object]:
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": number, "args": list(arguments)}


def _allow(name: str, *arguments: dict[str, object]) -> dict[str, object]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


def _equal(index: int, value: int) -> dict[str, object]:
    return _argument(index, "SCMP_CMP_EQ", value, 0)


def _masked(index: int, mask: int, value: int) -> dict[str, object]:
    return _argument(index, "SCMP_CMP_MASKED_EQ", mask, value)


def _argument(index: int, op: str, value: int, value_two: int) -> dict[str, object]:
    return {"index": index, "op": op, "value": value, "valueTwo": value_two}
