"""What a run is confined by before its runtime has read a line of the bundle, and whatever the runtime does.

Two layers beside the runtime's own. The child that becomes the runtime's ``create`` or ``exec`` takes on a
seccomp list of what neither a runtime nor an ordinary program needs (measured: runc 1.1.5 and 1.5.2, crun
1.8.1, runsc of 2026-09); all that it starts inherits it. And the whole supervisor of a run, with all that it
starts, is a Landlock domain of its own: signals, abstract unix sockets and the memory of processes outside
are out of reach. The domain handles no files, so runtimes can mount.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Mapping

from registry.contract.report import Mechanism
from sandbox import bpf, landlock
from sandbox.bpf import Instruction, Machine
from sandbox.bundles.seccomp import HELD_OPTIONS, HUGE_PAGES
from sandbox.errors import SandboxError
from sandbox.runtimes.base import RuntimeInfo
from sandbox.runtimes.watch import read_status

# Numbers on x86_64 and on aarch64; None where there is no such call.
REFUSED: Mapping[str, tuple[int | None, int | None]] = {
    "_sysctl": (156, None),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "finit_module": (313, 273),
    "get_kernel_syms": (177, None),
    "get_mempolicy": (239, 236),
    "init_module": (175, 105),
    "io_cancel": (210, 3),
    "io_destroy": (207, 1),
    "io_getevents": (208, 4),
    "io_pgetevents": (333, 292),
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "mincore": (27, 232),
    "modify_ldt": (154, None),
    "move_pages": (279, 239),
    "mq_getsetattr": (245, 185),
    "mq_notify": (244, 184),
    "mq_open": (240, 180),
    "mq_timedreceive": (243, 183),
    "mq_timedsend": (242, 182),
    "mq_unlink": (241, 181),
    "msgctl": (71, 187),
    "msgget": (68, 186),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "remap_file_pages": (216, 234),
    "request_key": (249, 218),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "sysfs": (139, None),
    "syslog": (103, 116),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vhangup": (153, 58),
    "vmsplice": (278, 75),
    "vserver": (236, None),
}
"""Calls that fail with ENOSYS, as on a kernel that does not have them."""
JUDGED: Mapping[str, tuple[int, int]] = {
    "getsockopt": (55, 209),
    "ioctl": (16, 29),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "mmap": (9, 222),
    "personality": (135, 92),
    "seccomp": (317, 277),
    "setsockopt": (54, 208),
    "shmget": (29, 194),
    "socket": (41, 198),
    "socketpair": (53, 199),
}
"""Calls that are refused by what they ask for."""
# What a kernel in user space does to the programs that it runs (runsc with systrap needs ptrace), and to the
# memory that it gives them.
_OF_KERNELS = ("ptrace", "process_vm_readv", "process_vm_writev", "mincore", "mbind", "get_mempolicy")
# Pushing input into a terminal.
_TERMINAL_REQUESTS = (0x5412, 0x541C)
# Join a session keyring, set its permissions, describe it: how a runtime makes one for each container.
_KEYRING_REQUESTS = (1, 5, 6)
# Plain Linux, its 32-bit uname, an old version number with either, and the question which.
_PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# A filter that hands its questions to whoever holds a descriptor.
_NEW_LISTENER = 8
_KIND_OF_SOCKET = 0xF
_NETLINK_ROUTE = 0
# The kind's own protocol, TCP or UDP, and the echo of either internet: others would load modules.
_STREAM_PROTOCOLS, _DATAGRAM_PROTOCOLS = (0, 6), (0, 17, 1, 58)
# The old netfilter, whose tables anybody may read on some kernels: all options of IPv4 from 64 on, and of
# IPv6 these, with others between them.
_IPV4, _IPV6, _NOT_BELOW_64 = 0, 41, 0xFFFFFFC0
_NETFILTER_OF_IPV6 = (64, 65, 68, 69, 80)


def make_program(machine: Machine, *, without: Collection[str] = ()) -> bytes:
    """The seccomp program that a runtime's call is started under, but for the calls ``without``."""
    program = bpf.native_only(machine)
    for name, pair in REFUSED.items():
        number = pair[machine.column]
        if number is not None and name not in without:
            program += _when(number, [bpf.refuse(errno.ENOSYS)])
    judges = {
        "ioctl": [
            (bpf.LOAD, 0, 0, bpf.ARGUMENTS[1]),
            *(step for one in _TERMINAL_REQUESTS for step in _when(one, [bpf.refuse(errno.EPERM)])),
            (bpf.GIVE, 0, 0, bpf.ALLOW),
        ],
        "keyctl": [(bpf.LOAD, 0, 0, bpf.ARGUMENTS[0]), *_only(_KEYRING_REQUESTS, errno.ENOSYS)],
        **{
            name: [(bpf.LOAD, 0, 0, bpf.ARGUMENTS[index]), (bpf.AND, 0, 0, bit), *_only((0,), errno.EPERM)]
            for name, (index, bit) in HUGE_PAGES.items()
        },
        "getsockopt": [(bpf.LOAD, 0, 0, bpf.ARGUMENTS[1]), *_old_netfilter(), (bpf.GIVE, 0, 0, bpf.ALLOW)],
        "setsockopt": _judge_options(),
        "personality": [(bpf.LOAD, 0, 0, bpf.ARGUMENTS[0]), *_only(_PERSONALITIES, errno.EPERM)],
        "seccomp": [
            (bpf.LOAD, 0, 0, bpf.ARGUMENTS[1]),
            (bpf.AND, 0, 0, _NEW_LISTENER),
            *_only((0,), errno.EINVAL),
        ],
        "socket": _judge_sockets(),
        "socketpair": [
            (bpf.LOAD, 0, 0, bpf.ARGUMENTS[0]),
            *_only((socket.AF_UNIX,), errno.EPERM),
        ],
    }
    for name, judge in judges.items():
        program += _when(JUDGED[name][machine.column], judge)
    return bpf.pack([*program, (bpf.GIVE, 0, 0, bpf.ALLOW)])


def _judge_sockets() -> list[Instruction]:
    """Unix; streams and datagrams of both internets; netlink for routes alone."""
    kinds = {socket.SOCK_STREAM: _STREAM_PROTOCOLS, socket.SOCK_DGRAM: _DATAGRAM_PROTOCOLS}
    protocol = (bpf.LOAD, 0, 0, bpf.ARGUMENTS[2])
    internet = [
        (bpf.LOAD, 0, 0, bpf.ARGUMENTS[1]),
        (bpf.AND, 0, 0, _KIND_OF_SOCKET),
        *(
            step
            for kind, protocols in kinds.items()
            for step in _when(kind, [protocol, *_only(protocols, errno.EPERM)])
        ),
        bpf.refuse(errno.EPERM),
    ]
    netlink = [(bpf.LOAD, 0, 0, bpf.ARGUMENTS[2]), *_only((_NETLINK_ROUTE,), errno.EPROTONOSUPPORT)]
    return [
        (bpf.LOAD, 0, 0, bpf.ARGUMENTS[0]),
        *_when(socket.AF_INET, internet),
        *_when(socket.AF_INET6, internet),
        *_when(socket.AF_NETLINK, netlink),
        *_only((socket.AF_UNIX,), errno.EAFNOSUPPORT),
    ]


def _judge_options() -> list[Instruction]:
    """All but those that have the kernel keep what it counts to nobody."""
    refuse = bpf.refuse(errno.ENOPROTOOPT)
    return [
        (bpf.LOAD, 0, 0, bpf.ARGUMENTS[1]),
        *_old_netfilter(),
        *(
            step
            for level, options in HELD_OPTIONS.items()
            for step in _when(
                level,
                [
                    (bpf.LOAD, 0, 0, bpf.ARGUMENTS[2]),
                    *(one for option in options for one in _when(option, [refuse])),
                    (bpf.GIVE, 0, 0, bpf.ALLOW),
                ],
            )
        ),
        (bpf.GIVE, 0, 0, bpf.ALLOW),
    ]


def _old_netfilter() -> list[Instruction]:
    """Where the level was loaded: refuse its options, by either internet."""
    option = (bpf.LOAD, 0, 0, bpf.ARGUMENTS[2])
    one_by_one = [step for one in _NETFILTER_OF_IPV6 for step in _when(one, [bpf.refuse(errno.EPERM)])]
    return [
        *_when(_IPV4, [option, (bpf.AND, 0, 0, _NOT_BELOW_64), *_only((0,), errno.EPERM)]),
        *_when(_IPV6, [option, *one_by_one, (bpf.GIVE, 0, 0, bpf.ALLOW)]),
    ]


def _when(value: int, block: list[Instruction]) -> list[Instruction]:
    """``block``, which ends the program, if what was loaded is ``value``."""
    return [(bpf.EQUAL, 0, len(block), value), *block]


def _only(values: tuple[int, ...], number: int) -> list[Instruction]:
    """Allow if what was loaded is one of ``values``, else refuse with an errno."""
    allow = (bpf.GIVE, 0, 0, bpf.ALLOW)
    return [*(step for value in values for step in _when(value, [allow])), bpf.refuse(number)]


def outer_program(runtime: RuntimeInfo) -> bytes | None:
    """The program for calls of this runtime on this host; ``None`` where it could not be told from others
    afterwards."""
    if "Seccomp_filters" not in read_status(os.getpid()):
        return None
    try:
        return make_program(bpf.this_machine(), without=_left_out(runtime))
    except OSError:
        return None


def _left_out(runtime: RuntimeInfo) -> tuple[str, ...]:
    return _OF_KERNELS if runtime.kernel == "own" else ()


def enter_domain() -> None:
    """Make this process and what it starts a Landlock domain, where the kernel knows scopes.

    Raises:
        OSError: the kernel knows them but refuses.
    """
    if landlock.version() >= landlock.SCOPES_ABI:
        landlock.restrict(scoped=landlock.SCOPE_ABSTRACT_SOCKETS | landlock.SCOPE_SIGNALS)


def inherited_filters(runtime: RuntimeInfo) -> int:
    """How many seccomp filters a process of a run has without any that the runtime adds: ours, and the one
    list that its call was started under."""
    own = read_status(os.getpid()).get("Seccomp_filters", 0)
    return own if outer_program(runtime) is None else own + 1


def outer_seccomp(runtime: RuntimeInfo) -> Mechanism:
    """The line of a run's record, once its process was seen to have what it inherits and its own list too."""
    if outer_program(runtime) is None:
        detail = "the kernel does not count a process's filters"
        return Mechanism(name="outer seccomp", applied=False, detail=detail)
    refused = len(REFUSED) - len(_left_out(runtime))
    detail = f"{refused} calls refused, {len(JUDGED)} more by what they ask for"
    return Mechanism(name="outer seccomp", applied=True, detail=detail)


def verify_domain(pid: int) -> Mechanism:
    """That this process is in a Landlock domain, and the run's process in the same or one below.

    The kernel shows no domain; it shows what one may reach. Our parent, outside, must refuse our signal, and
    the run's process must let us see its namespaces, which only a process of our own domain does.

    Raises:
        SandboxError: ``isolation-missing``: the kernel knows scopes, but they do not hold.
    """
    version = landlock.version()
    if version < landlock.SCOPES_ABI:
        detail = f"the kernel's Landlock has version {version}; scopes came with {landlock.SCOPES_ABI}"
        return Mechanism(name="Landlock", applied=False, detail=detail if version else "not in this kernel")
    if not _refuses_signals(os.getppid()) or _refuses_signals(pid) or not _shows_namespaces(pid):
        raise SandboxError("isolation-missing", "the run is not in the supervisor's Landlock domain")
    return Mechanism(
        name="Landlock",
        applied=True,
        detail="no signal to, socket or memory of a process outside; a signal to the worker was refused",
    )


def _refuses_signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    return False


def _shows_namespaces(pid: int) -> bool:
    try:
        os.readlink(f"/proc/{pid}/ns/net")
    except PermissionError:
        return False
    return True
