"""Running images as a plain user: the process enters a user namespace of its own before it does anything.

Inside, id 0 is the user, and ids 1 to 65536 are the range that ``/etc/subuid`` and ``/etc/subgid`` give that
user; the setuid helpers ``newuidmap`` and ``newgidmap`` write the maps. There the worker may mount, and make
the namespaces of its runs; towards the host it has no more rights than before.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.lsm.apparmor import profiles_of
from sandbox.runtimes.cgroups import step_aside
from sandbox.syscalls import CLONE_NEWNS, CLONE_NEWUSER, unshare

NEEDED_IDS = 65536
RESTRICTION = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HELPER_SECONDS = 10.0


def enter_user_namespace() -> None:
    """Start this process anew, with the same arguments, inside a user namespace; root only steps aside.

    Only for a process without threads. Returns only where it runs as root already, of the host or inside.

    Raises:
        SandboxError: ``isolation-missing``: the host does not let this user do so, and what would.
    """
    if os.geteuid() == 0:
        step_aside()
        return
    maps = [_map("uid", os.getuid()), _map("gid", os.getgid())]
    if _confined_inside():
        raise SandboxError(
            "isolation-missing",
            "AppArmor takes all rights in a user namespace from plain users' programs that it does not know",
        )
    step_aside()
    ready_read, ready_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(ready_write)
        _write_maps(os.getppid(), maps, ready_read)
    os.close(ready_read)
    try:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        os.write(ready_write, b"\n")
    except OSError as error:
        raise SandboxError(
            "isolation-missing", f"this user may not make a user namespace ({error.strerror})"
        ) from None
    finally:
        os.close(ready_write)
        _, status = os.waitpid(helper, 0)
    if os.waitstatus_to_exitcode(status) != 0 or os.geteuid() != 0:
        raise SandboxError("isolation-missing", "newuidmap or newgidmap refused this user's range of ids")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  (ourselves)


def _confined_inside() -> bool:
    """Whether AppArmor puts a program that makes a user namespace under another profile, as on Ubuntu 24.04.

    The namespace is made, and then nothing can be done in it.
    """
    if not RESTRICTION.exists() or RESTRICTION.read_text(encoding="ascii").strip() != "1":
        return False
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            before = profiles_of(os.getpid())
            unshare(CLONE_NEWUSER)
            code = int(profiles_of(os.getpid()) != before)
        except OSError:
            code = 0  # refused here, and so by the caller, which says how
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) != 0


def host_uid() -> int:
    """The user id of this process as the host knows it."""
    if os.geteuid() != 0:
        return os.geteuid()
    inside, outside, _ = Path("/proc/self/uid_map").read_text(encoding="ascii").split()[:3]
    return int(outside) if inside == "0" else 0


def why_not_rootless() -> str | None:
    """Why the calling user cannot have the ids that a run needs, or ``None``."""
    try:
        _map("uid", os.getuid())
        _map("gid", os.getgid())
    except SandboxError as error:
        return error.message
    return None


def range_of(table: Path, name: str, uid: int) -> int | None:
    """The first id of a range that is large enough and the user's, in a table such as ``/etc/subuid``."""
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        cells = line.split(":")
        numbers = cells[1:] if len(cells) == 3 and cells[0] in (name, str(uid)) else []
        if numbers and all(text.isdigit() for text in numbers) and int(numbers[1]) >= NEEDED_IDS:
            return int(numbers[0])
    return None


def _map(kind: str, own: int) -> tuple[str, ...]:
    """The command line of ``newuidmap`` or ``newgidmap``, but for the process id."""
    program = shutil.which(f"new{kind}map", path=_SEARCH)
    if program is None:
        raise SandboxError("isolation-missing", f"there is no new{kind}map; install the package uidmap")
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    first = range_of(Path(f"/etc/sub{kind}"), name, os.getuid())
    if first is None:
        raise SandboxError(
            "isolation-missing",
            f"the user {name} has no range of {NEEDED_IDS} ids in /etc/sub{kind}; as root:"
            f" usermod --add-sub{kind}s 200000-{200000 + NEEDED_IDS - 1} {name}",
        )
    return (program, "0", str(own), "1", "1", str(first), str(NEEDED_IDS))


def _write_maps(pid: int, maps: list[tuple[str, ...]], ready_fd: int) -> None:
    """In the forked helper, which stays outside: write both maps of ``pid``, once it is ready."""
    code = 1
    try:
        if os.read(ready_fd, 1):
            done = [
                subprocess.run(
                    [one[0], str(pid), *one[1:]],
                    check=False,
                    capture_output=True,
                    timeout=_HELPER_SECONDS,
                    env={},
                ).returncode
                for one in maps
            ]
            code = max(done)
    finally:
        os._exit(code)
