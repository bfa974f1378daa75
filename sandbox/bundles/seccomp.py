"""The seccomp filter of every run: an allow list of our own; all else answers ENOSYS.

Native architecture only: a 32-bit or x32 call ends the process, and the filter is half as long. With ENOSYS
libraries fall back to older calls, as they would on an older kernel.
"""

from __future__ import annotations

from importlib.resources import files

from sandbox.errors import SandboxError

_ARCHITECTURES = {
    "x86_64": "SCMP_ARCH_X86_64",
    "aarch64": "SCMP_ARCH_AARCH64",
    "riscv64": "SCMP_ARCH_RISCV64",
    "ppc64le": "SCMP_ARCH_PPC64LE",
    "s390x": "SCMP_ARCH_S390X",
}
_ENOSYS = 38
# Every CLONE_NEW* flag that clone takes: time, cgroup, uts, ipc, user, pid, net, and mount.
_CLONE_NEW = 0x7E020080
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _NETLINK_ROUTE = 1, 2, 10, 16, 0
_PERSONALITY_LINUX, _PERSONALITY_QUERY = 0x0, 0xFFFFFFFF


def allowed_syscalls() -> tuple[str, ...]:
    """The names that are allowed whatever their arguments, from ``syscalls.txt``."""
    text = files("sandbox.bundles").joinpath("syscalls.txt").read_text(encoding="ascii")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def make_seccomp(machine: str) -> dict[str, object]:
    """``linux.seccomp`` for a machine as ``uname -m`` names it.

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
            {"names": list(allowed_syscalls()), "action": "SCMP_ACT_ALLOW"},
            _allow("clone", _argument(flags_index, "SCMP_CMP_MASKED_EQ", _CLONE_NEW, 0)),
            *(_allow("socket", _equal(0, family)) for family in (_AF_UNIX, _AF_INET, _AF_INET6)),
            _allow("socket", _equal(0, _AF_NETLINK), _equal(2, _NETLINK_ROUTE)),
            *(_allow("personality", _equal(0, it)) for it in (_PERSONALITY_LINUX, _PERSONALITY_QUERY)),
        ],
    }


def _allow(name: str, *arguments: dict[str, object]) -> dict[str, object]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


def _equal(index: int, value: int) -> dict[str, object]:
    return _argument(index, "SCMP_CMP_EQ", value, 0)


def _argument(index: int, op: str, value: int, value_two: int) -> dict[str, object]:
    return {"index": index, "op": op, "value": value, "valueTwo": value_two}
