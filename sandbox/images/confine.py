"""How the unpacking child gives up everything it does not need, before it reads a hostile byte.

Two layers at least stand against each attempt: it has no capability beyond changing owners and modes of files
inside its own user namespace; an empty, read-only root; no network; Landlock, where the kernel has it, leaves
it only its output folder; a seccomp list allows some sixty calls, none of which starts a program, opens a
socket, mounts, traces or makes a process.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass

from sandbox import bpf, landlock
from sandbox import syscalls as kernel

_CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_FOWNER, _CAP_FSETID = 0, 1, 3, 4
_CAPABILITIES = sum(1 << one for one in (_CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_FOWNER, _CAP_FSETID))
_ADDRESS_SPACE_BYTES = 1024 * 1024 * 1024

# Numbers on x86_64 and on aarch64.
_ALLOWED: Mapping[str, tuple[int | None, int | None]] = {
    "brk": (12, 214),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "close": (3, 57),
    "dup": (32, 23),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "fchmod": (91, 52),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "fcntl": (72, 25),
    "fsetxattr": (190, 7),
    "fstat": (5, 80),
    "fstatfs": (138, 44),
    "ftruncate": (77, 46),
    "futex": (202, 98),
    "getdents64": (217, 61),
    "getegid": (108, 177),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getpid": (39, 172),
    "getrandom": (318, 278),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "linkat": (265, 37),
    "lseek": (8, 62),
    "madvise": (28, 233),
    "membarrier": (324, 283),
    "mkdirat": (258, 34),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "newfstatat": (262, 79),
    "openat": (257, 56),
    "poll": (7, None),
    "ppoll": (271, 73),
    "pread64": (17, 67),
    "pselect6": (270, 72),
    "read": (0, 63),
    "readlinkat": (267, 78),
    "readv": (19, 65),
    "restart_syscall": (219, 128),
    "rseq": (334, 293),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_getaffinity": (204, 123),
    "sched_yield": (24, 124),
    "select": (23, None),
    "set_robust_list": (273, 99),
    "sigaltstack": (131, 132),
    "statx": (332, 291),
    "symlinkat": (266, 36),
    "unlinkat": (263, 35),
    "utimensat": (280, 88),
    "write": (1, 64),
    "writev": (20, 66),
}
_CLONE = (56, 220)
_CLONE_THREAD = 0x10000

_LANDLOCK_RIGHTS_BY_ABI = (13, 14, 15, 15, 16)
# write_file, read_file, read_dir, remove_dir, remove_file, make_dir, make_reg, make_sym; refer, truncate
_LANDLOCK_FOLDER = sum(1 << bit for bit in (1, 2, 3, 4, 5, 7, 8, 12))
_LANDLOCK_REFER, _LANDLOCK_TRUNCATE = 1 << 13, 1 << 14


@dataclass(frozen=True, slots=True)
class Rlimits:
    """Limits of the child: seconds of processor time, bytes of one file."""

    cpu_seconds: int
    file_bytes: int


def enter_empty_world(userns_fd: int) -> None:
    """Become root of the user namespace and of nothing else: own pid (for children), network, ipc, uts and
    cgroup namespaces, and a mount namespace in which an empty read-only folder is all there is.

    The caller is in a mount namespace of its own already.
    """
    kernel.enter(userns_fd, kernel.CLONE_NEWUSER)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    kernel.unshare(
        kernel.CLONE_NEWNS
        | kernel.CLONE_NEWPID
        | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWUTS
        | kernel.CLONE_NEWCGROUP
    )
    # /proc is there for certain, and nothing below reads it any more.
    kernel.mount("none", "/proc", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=4k,nr_inodes=2,mode=555")
    os.chdir("/proc")
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)
    os.chdir("/")
    kernel.mount(
        "none",
        "/",
        None,
        kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV,
    )


def give_up_rights(out_fd: int, limits: Rlimits) -> bool:
    """Limits, capabilities, Landlock, seccomp; after this only ``out_fd`` can be written below.

    Returns whether Landlock is there.

    Raises:
        OSError: the kernel has one of the others not.
    """
    for kind, value in (
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_AS, _ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 1024),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        new = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (new, new))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    _keep_capabilities()
    landlocked = _landlock(out_fd)
    _seccomp()
    return landlocked


def _keep_capabilities() -> None:
    for capability in range(64):
        if not _CAPABILITIES >> capability & 1:
            try:
                kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break
    kernel.set_capabilities(_CAPABILITIES)


def _landlock(out_fd: int) -> bool:
    abi = landlock.version()
    if not abi:
        return False
    rights = (1 << _LANDLOCK_RIGHTS_BY_ABI[min(abi, len(_LANDLOCK_RIGHTS_BY_ABI)) - 1]) - 1
    landlock.restrict(
        files=rights,
        network=3 if abi >= 4 else 0,
        scoped=landlock.SCOPE_ABSTRACT_SOCKETS | landlock.SCOPE_SIGNALS if abi >= landlock.SCOPES_ABI else 0,
        below=(((_LANDLOCK_FOLDER | _LANDLOCK_REFER | _LANDLOCK_TRUNCATE) & rights, out_fd),),
    )
    return True


def _seccomp() -> None:
    bpf.install(bpf.pack(filter_program(bpf.this_machine())))


def filter_program(machine: bpf.Machine) -> list[bpf.Instruction]:
    """The seccomp program: what is on the list, threads, and nothing else."""
    numbers = [pair[machine.column] for pair in _ALLOWED.values() if pair[machine.column] is not None]
    program = bpf.native_only(machine)
    for position, number in enumerate(numbers):
        assert number is not None
        # To the last instruction, over the other numbers and the five that look at clone.
        program.append((bpf.EQUAL, len(numbers) - position - 1 + 5, 0, number))
    program += [
        (bpf.EQUAL, 1, 0, _CLONE[machine.column]),
        # ENOSYS lets the C library fall back to a call that is on the list.
        bpf.refuse(errno.ENOSYS),
        (bpf.LOAD, 0, 0, bpf.ARGUMENTS[0]),
        (bpf.ANY_BIT, 1, 0, _CLONE_THREAD),
        bpf.refuse(errno.EPERM),
        (bpf.GIVE, 0, 0, bpf.ALLOW),
    ]
    return program
