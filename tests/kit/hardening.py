"""Start a command as systemd would by a unit: ``python hardening.py UNIT WRITABLE:WRITABLE… COMMAND…``

What a container without systemd can have of it: the bounding set of capabilities, no new privileges, a file
system that is read-only but for the unit's own folders, refused system calls and families of addresses, and
of ``ProtectHostname`` the filter. What is not there (ProtectHome, the folder of kernel modules) would only
take away files that the read-only file system keeps from being changed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sandbox import bpf
from sandbox import syscalls as kernel

ROOT = Path(__file__).resolve().parents[2]
HARDENING = Path(__file__).resolve()
_MOUNT_SETATTR, _HERE, _RECURSIVE, _READ_ONLY = 442, -100, 0x8000, 1
_CAPBSET_DROP, _NO_NEW_PRIVS = 24, 38
_BIND, _PRIVATE, _REC = 0x1000, 1 << 18, 0x4000
_CAPABILITIES = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable "
    "net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot "
    "sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease "
    "audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read "
    "perfmon bpf checkpoint_restore"
)


def hardened(unit: Path, writable: Sequence[Path]) -> tuple[str, ...]:
    """What to put before a command."""
    return (sys.executable, str(HARDENING), str(unit), ":".join(map(str, writable)))


def settings_of(unit: Path) -> dict[str, str]:
    """The directives of a unit that are given once, by name."""
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))


def main() -> None:
    """Harden this process, then become the command."""
    unit, writable, *command = sys.argv[1:]
    settings = settings_of(Path(unit))
    # Before anything is taken away: it asks systemd-analyze.
    program = _filter(settings)
    if settings.get("ProtectSystem") == "strict":
        _make_read_only([Path(path) for path in writable.split(":")])
    held = {name.removeprefix("CAP_").lower() for name in settings.get("CapabilityBoundingSet", "").split()}
    for number, name in enumerate(_CAPABILITIES.split()):
        if held and name not in held:
            kernel.prctl(_CAPBSET_DROP, number)
    if settings.get("NoNewPrivileges") == "yes":
        kernel.prctl(_NO_NEW_PRIVS, 1)
    bpf.install(program)
    os.execvp(command[0], command)


def _make_read_only(writable: Sequence[Path]) -> None:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, _REC | _PRIVATE)
    for path in writable:
        path.mkdir(parents=True, exist_ok=True)
        kernel.mount(str(path), str(path), None, _BIND)
    _set_read_only(Path("/"), on=True)
    # PrivateTmp would give both; /tmp holds what tests made for the command.
    kernel.mount("tmpfs", "/var/tmp", "tmpfs", 0, "mode=1777")
    for path in (Path("/dev"), Path("/proc"), Path("/sys"), *writable):
        _set_read_only(path, on=False)


def _set_read_only(path: Path, *, on: bool) -> None:
    attributes = (ctypes.c_uint64 * 4)(*((_READ_ONLY, 0) if on else (0, _READ_ONLY)), 0, 0)
    kernel.syscall(
        _MOUNT_SETATTR,
        _HERE,
        os.fsencode(path),
        _RECURSIVE,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
        what=f"mount_setattr {path}",
    )


def _filter(settings: dict[str, str]) -> bytes:
    numbers = _numbers()
    names = set(_calls(settings.get("SystemCallFilter", "~").removeprefix("~").split()))
    if settings.get("ProtectHostname") == "yes":
        names |= {"sethostname", "setdomainname"}
    steps = bpf.native_only(bpf.this_machine())
    for number in sorted(numbers[name] for name in names if name in numbers):
        steps += [(bpf.EQUAL, 0, 1, number), bpf.refuse(errno.EPERM)]
    families = [getattr(socket, name) for name in settings.get("RestrictAddressFamilies", "").split()]
    if families:
        judged = [(bpf.LOAD, 0, 0, bpf.ARGUMENTS[0])]
        for family in families:
            judged += [(bpf.EQUAL, 0, 1, family), (bpf.GIVE, 0, 0, bpf.ALLOW)]
        judged.append(bpf.refuse(errno.EAFNOSUPPORT))
        steps += [(bpf.EQUAL, 0, len(judged), numbers["socket"]), *judged]
    return bpf.pack([*steps, (bpf.GIVE, 0, 0, bpf.ALLOW)])


def _calls(words: Sequence[str]) -> Iterator[str]:
    """The calls that are meant, of sets too, as systemd knows them."""
    for word in words:
        if not word.startswith("@"):
            yield word
            continue
        shown = subprocess.run(
            ["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True
        ).stdout
        inner = [line.strip() for line in shown.splitlines()[1:]]
        yield from _calls([line for line in inner if line and not line.startswith("#")])


def _numbers() -> dict[str, int]:
    header = Path(f"/usr/include/{platform.machine()}-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        header = Path("/usr/include/asm-generic/unistd.h")
    found = re.findall(r"^#define __NR_(\w+)\s+(\d+)", header.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


if __name__ == "__main__":
    main()
