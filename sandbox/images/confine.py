"""How a child that reads layers gives up everything it does not need, before it reads a hostile byte.

Two layers at least stand against each attempt: it has no capability beyond changing owners and modes of files
inside its own user namespace, and none at all where it only reads; an empty, read-only root; no network;
Landlock, where the kernel has it, leaves it only its output folder, if it has one; a seccomp list allows some
sixty calls, none of which starts a program, opens a socket, mounts, traces or makes a process. A child that
only reads has no call that opens, makes or changes a file by its name.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sandbox import bpf, landlock
from sandbox import syscalls as kernel

_CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_FOWNER, _CAP_FSETID = 0, 1, 3, 4
_CAPABILITIES = sum(1 << one for one in (_CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_FOWNER, _CAP_FSETID))
ADDRESS_SPACE_BYTES = 1024 * 1024 * 1024

Calls = Mapping[str, tuple[int | None, int | None]]
"""Names of calls, with their numbers on x86_64 and on aarch64."""
WRITER_CALLS: Calls = {
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
_WRITERS_ALONE = frozenset(
    {
        *(
            "fchmod",
            "fchown",
            "fchownat",
            "fsetxattr",
            "fstatfs",
            "getdents64",
            "linkat",
            "mkdirat",
            "openat",
        ),
        *("openat", "readlinkat", "symlinkat", "unlinkat", "utimensat"),
    }
)
READER_CALLS: Calls = {
    **{name: numbers for name, numbers in WRITER_CALLS.items() if name not in _WRITERS_ALONE},
    "preadv": (295, 69),
    "pwrite64": (18, 68),
    "setitimer": (38, 103),
}
_CLONE = (56, 220)
_CLONE_THREAD = 0x10000

_LANDLOCK_RIGHTS_BY_ABI = (13, 14, 15, 15, 16)
# write_file, read_file, read_dir, remove_dir, remove_file, make_dir, make_reg, make_sym; refer, truncate
_LANDLOCK_FOLDER = sum(1 << bit for bit in (1, 2, 3, 4, 5, 7, 8, 12))
_LANDLOCK_REFER, _LANDLOCK_TRUNCATE = 1 << 13, 1 << 14


@dataclass(frozen=True, slots=True)
class Rlimits:
    """Limits of the child: seconds of processor time, bytes of one file, bytes of address space."""

    cpu_seconds: int
    file_bytes: int
    address_space_bytes: int = ADDRESS_SPACE_BYTES


def fork_last(parent_pid: int, inner: Callable[[], int]) -> int | None:
    """Fork the process that reads the layer, the only one in its pid namespace, and wait for it; its exit
    code, or None where the worker with ``parent_pid`` is gone. It ends when this one does.

    Raises:
        OSError: there can be none.
    """
    # Once more: changing the user has cleared it.
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        return None
    alive_read, alive_write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(alive_write)
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            if not select.select([alive_read], [], [], 0)[0]:
                os.close(alive_read)
                code = inner()
        finally:
            # The decompressing thread may still wait; nothing is left to clean up.
            os._exit(code)
    # This process never looks at the layer: it keeps the exit code.
    os.close(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF


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


def give_up_rights(out_fd: int | None, limits: Rlimits) -> bool:
    """Limits, capabilities, Landlock, seccomp; after this only ``out_fd`` can be written below, and without
    one no file can be opened at all.

    Returns whether Landlock is there.

    Raises:
        OSError: the kernel has one of the others not.
    """
    for kind, value in (
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_AS, limits.address_space_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 1024),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        new = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (new, new))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    _keep_capabilities(0 if out_fd is None else _CAPABILITIES)
    landlocked = _landlock(out_fd)
    calls = READER_CALLS if out_fd is None else WRITER_CALLS
    bpf.install(bpf.pack(filter_program(bpf.this_machine(), calls)))
    return landlocked


def _keep_capabilities(kept: int) -> None:
    for capability in range(64):
        if not kept >> capability & 1:
            try:
                kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break
    kernel.set_capabilities(kept)


def _landlock(out_fd: int | None) -> bool:
    abi = landlock.version()
    if not abi:
        return False
    rights = (1 << _LANDLOCK_RIGHTS_BY_ABI[min(abi, len(_LANDLOCK_RIGHTS_BY_ABI)) - 1]) - 1
    kept = (_LANDLOCK_FOLDER | _LANDLOCK_REFER | _LANDLOCK_TRUNCATE) & rights
    landlock.restrict(
        files=rights,
        network=3 if abi >= 4 else 0,
        scoped=landlock.SCOPE_ABSTRACT_SOCKETS | landlock.SCOPE_SIGNALS if abi >= landlock.SCOPES_ABI else 0,
        below=() if out_fd is None else ((kept, out_fd),),
    )
    return True


def filter_program(machine: bpf.Machine, calls: Calls) -> list[bpf.Instruction]:
    """The seccomp program: what is on the list, threads, and nothing else."""
    numbers = [pair[machine.column] for pair in calls.values() if pair[machine.column] is not None]
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
