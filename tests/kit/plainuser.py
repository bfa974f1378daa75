"""A plain user of this machine for a test, and programs run as that user.

Interpreter and checkout may stand in folders that are closed to others (a home of root's): the program gets a
mount namespace of its own in which the way to them is open.
"""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def plain_user(*, ids: bool = True) -> Iterator[str]:
    """The name of a new user, with a range of subordinate ids or without; removed at the end."""
    name = f"seatrial-{secrets.token_hex(4)}"
    command = ["useradd", "--no-create-home", "--shell", "/bin/sh", name]
    ranges = [] if ids else ["--key", "SUB_UID_COUNT=0", "--key", "SUB_GID_COUNT=0"]
    subprocess.run([*command, *ranges], check=True, capture_output=True)
    try:
        yield name
    finally:
        _remove(name)


def _remove(name: str) -> None:
    """Remove the user: not before what was killed, or ends by itself, has ended."""
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(["userdel", name], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.2)


def as_user(name: str, *command: str) -> list[str]:
    """The command line that runs ``command`` as that user; needs root."""
    return ["unshare", "--mount", sys.executable, str(Path(__file__)), name, *command]


def _open_way(trees: Sequence[Path]) -> None:
    """Let others through to ``trees``: what is closed above them is covered, and they are put back in."""
    stage = Path("/mnt")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", stage], check=True)
    closed: dict[Path, list[tuple[Path, Path]]] = {}
    for number, tree in enumerate(trees):
        shut = [above for above in reversed((tree, *tree.parents)) if not above.stat().st_mode & 0o001]
        if shut:
            staged = stage / str(number)
            staged.mkdir()
            subprocess.run(["mount", "--bind", tree, staged], check=True)
            closed.setdefault(shut[0], []).append((tree, staged))
    for above, below in closed.items():
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", above], check=True)
        for tree, staged in below:
            tree.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", staged, tree], check=True)


def main(name: str, *command: str) -> None:
    """In the new mount namespace: open the way, become the user, run the command."""
    trees = dict.fromkeys(Path(one).resolve() for one in (sys.base_prefix, sys.prefix, ROOT))
    _open_way([one for one in trees if not any(one != other and other in one.parents for other in trees)])
    user = pwd.getpwnam(name)
    os.chdir("/")
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "USER": name}
    os.execve(command[0], list(command), environment)


if __name__ == "__main__":
    main(*sys.argv[1:])
