"""What can be done about what a host lacks: each thing that ``doctor --fix`` does, and what undoes it.

Nothing is done by finding out what could be. What was done is not done again: a fix is found only where the
host is not yet as it would leave it.
"""

from __future__ import annotations

import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

from registry.errors import RequestInvalidError
from sandbox.errors import SandboxError
from sandbox.lsm import apparmor, selinux
from sandbox.packages import RELEASE, how_to_install, install_command
from sandbox.rootless import NEEDED_IDS, range_of
from sandbox.runtimes.oci import SEARCH

_INSTALL_SECONDS = 600.0
_CALL_SECONDS = 120.0
_FIRST_ID = 100_000
_NAMESPACES = 15_000
_DELEGATED = "cpu cpuset io memory pids"
_PACKAGES = MappingProxyType(
    {"apparmor_parser": "apparmor", "semodule": "policycoreutils", "usermod": "passwd"}
)
_RESTRICTION = "kernel/apparmor_restrict_unprivileged_userns"


@dataclass(frozen=True, slots=True)
class Places:
    """Where this host keeps what is looked at and written; tests have folders of their own."""

    etc: Path = Path("/etc")
    settings: Path = Path("/proc/sys")
    security: Path = apparmor.SECURITY
    apparmor: Path = apparmor.MODULE
    selinuxfs: Path = selinux.SELINUXFS
    systemd: Path = Path("/run/systemd/system")
    unified: Path = Path("/sys/fs/cgroup")
    search: str = SEARCH
    """Where programs are, as in PATH."""


@dataclass(frozen=True, slots=True)
class User:
    """A plain user that is to run a worker."""

    name: str
    uid: int


@dataclass(frozen=True, slots=True)
class Fix:
    """One thing that can be done."""

    name: str
    gives: str
    """The lines of doctor that it mends."""
    says: str
    """What will be done, in words."""
    undo: str
    """The line that takes it back."""
    act: Callable[[], None] = field(repr=False)
    """Does it. Raises OSError or SandboxError."""


def find_user(name: str) -> User:
    """The user of that name.

    Raises:
        RequestInvalidError: there is none, or it is root.
    """
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise RequestInvalidError(f"there is no user {name[:80]!r} here") from None
    if found.pw_uid == 0:
        raise RequestInvalidError("root needs nothing of what plain users need")
    return User(name, found.pw_uid)


def find_fixes(user: User | None, *, places: Places | None = None) -> tuple[Fix, ...]:
    """What can be done here, in the order in which it is to be done: for a worker of root, and for one of
    ``user`` where that is given."""
    there = places or Places()
    return tuple(_fixes(user, there))


def carry_out(fix: Fix) -> str | None:
    """Do it; why that failed, or ``None``."""
    try:
        fix.act()
    except OSError as error:
        return f"{error.filename or 'the system'}: {error.strerror or error}"
    except SandboxError as error:
        return error.message
    return None


def _fixes(user: User | None, places: Places) -> Iterator[Fix]:
    lacking = [(name, gives) for program, name, gives in _programs(user, places) if not _has(program, places)]
    packages = list(dict.fromkeys(name for name, _ in lacking))
    if packages and (command := install_command(packages, release=places.etc / RELEASE.name)) is not None:
        yield Fix(
            "packages",
            ", ".join(dict.fromkeys(gives for _, gives in lacking)),
            f"install packages: {' '.join(command)}",
            f"remove them as this system removes packages: {' '.join(packages)}",
            partial(_call, command, places, seconds=_INSTALL_SECONDS),
        )
    yield from _settings(user, places)
    if apparmor.apparmor_active(module=places.apparmor):
        yield from _run_profile(places)
        if user is not None and _setting(places, _RESTRICTION) == "1":
            yield from _worker_profile(places)
    if selinux.why_no_label(selinuxfs=places.selinuxfs) is not None and selinux.selinux_active(
        selinuxfs=places.selinuxfs
    ):
        yield _module(places)
    if user is not None:
        yield from _ids(user, places)
        yield from _delegation(user, places)


def _programs(user: User | None, places: Places) -> Iterator[tuple[str, str, str]]:
    """Programs, each with its package and the line of doctor that needs it."""
    if not any(_has(name, places) for name in ("runc", "crun", "runsc")):
        yield "runc", "runc", "runtime"
    yield "ip", "iproute2", "egress"
    yield "tc", "iproute2", "egress"
    yield "nft", "nftables", "egress"
    if user is not None:
        yield "newuidmap", "uidmap", "user namespace"
    if apparmor.apparmor_active(module=places.apparmor):
        yield "apparmor_parser", "apparmor", "AppArmor"
    if selinux.selinux_active(selinuxfs=places.selinuxfs):
        yield "semodule", "policycoreutils", "SELinux"


def _settings(user: User | None, places: Places) -> Iterator[Fix]:
    wanted = {}
    if _setting(places, "user/max_user_namespaces") == "0":
        wanted["user/max_user_namespaces"] = str(_NAMESPACES)
    if user is not None and _setting(places, "kernel/unprivileged_userns_clone") == "0":
        wanted["kernel/unprivileged_userns_clone"] = "1"
    for name, value in wanted.items():
        dotted = name.replace("/", ".")
        file = places.etc / "sysctl.d" / f"60-seatrial-{name.partition('/')[2].replace('_', '-')}.conf"
        yield Fix(
            dotted,
            "user namespace",
            f"set {dotted} = {value} now, and in {file} for every start",
            f"rm {file} && sysctl --write {dotted}=0",
            partial(_set, places.settings / name, value, file, f"{dotted} = {value}\n"),
        )


def _run_profile(places: Places) -> Iterator[Fix]:
    name = apparmor.RUN_PROFILE
    file, text = places.etc / "apparmor.d" / name, apparmor.profile_text(name)
    mode = apparmor.loaded_profiles(security=places.security).get(name)
    if mode != "enforce" or _text(file) != text:
        yield Fix(
            "apparmor-profile",
            "AppArmor",
            f"write {file} and load it: apparmor_parser --replace {file}",
            f"apparmor_parser --remove {file} && rm {file}",
            partial(load_profile, file, text, places=places),
        )


def _worker_profile(places: Places) -> Iterator[Fix]:
    name = apparmor.WORKER_PROFILE
    file, text = places.etc / "apparmor.d" / name, worker_profile(Path(sys.prefix) / "bin" / "seatrial")
    if name not in apparmor.loaded_profiles(security=places.security) or _text(file) != text:
        yield Fix(
            "apparmor-userns",
            "user namespace",
            f"write {file}, which lets seatrial alone make user namespaces, and load it",
            f"apparmor_parser --remove {file} && rm {file}",
            partial(load_profile, file, text, places=places),
        )


def worker_profile(program: Path) -> str:
    """The profile that lets ``program`` make user namespaces, and confines it to nothing."""
    return apparmor.profile_text(apparmor.WORKER_PROFILE).replace("@ATTACHED@", f'"{program}" ')


def load_profile(file: Path, text: str, *, places: Places) -> None:
    """Write an AppArmor profile, and load it in place of what was loaded under its name.

    Raises:
        OSError: it cannot be written.
        SandboxError: ``worker-error``: the parser or the kernel will not have it. What was there before is
            there again.
    """
    before = _text(file)
    _write(file, text)
    try:
        _call(("apparmor_parser", "--replace", str(file)), places)
    except SandboxError:
        if before is None:
            file.unlink()
        else:
            _write(file, before)
        raise


def _module(places: Places) -> Fix:
    return Fix(
        "selinux-module",
        "SELinux",
        f"install the SELinux module {selinux.MODULE}: semodule --install {selinux.MODULE}.cil",
        f"semodule --remove {selinux.MODULE}",
        partial(install_module, places=places),
    )


def install_module(*, places: Places) -> None:
    """Install the SELinux module, in place of an older one.

    Raises:
        SandboxError: ``worker-error``: the policy does not take it.
    """
    with tempfile.TemporaryDirectory() as folder:
        # It is named as its file.
        file = Path(folder) / f"{selinux.MODULE}.cil"
        file.write_text(selinux.module_text(), encoding="utf-8")
        _call(("semodule", "--install", str(file)), places)


def _ids(user: User, places: Places) -> Iterator[Fix]:
    tables = [places.etc / "subuid", places.etc / "subgid"]
    lacking = [table for table in tables if range_of(table, user.name, user.uid) is None]
    if not lacking:
        return
    first = _free_range(tables)
    last = first + NEEDED_IDS - 1
    kinds = [f"{table.name}s" for table in lacking]
    names = " and ".join(str(table) for table in lacking)
    add = [part for kind in kinds for part in (f"--add-{kind}", f"{first}-{last}")]
    undo = " ".join(f"--del-{kind} {first}-{last}" for kind in kinds)
    yield Fix(
        "subordinate-ids",
        "user namespace",
        f"give {user.name} the ids {first} to {last}, which nobody has, in {names}",
        f"usermod {undo} {user.name}",
        partial(_call, ("usermod", *add, user.name), places),
    )


def _free_range(tables: Sequence[Path]) -> int:
    """The first id above all ranges that anybody has."""
    end = _FIRST_ID
    for line in "".join(_text(table) or "" for table in tables).splitlines():
        cells = line.split(":")
        if len(cells) == 3 and all(text.isdigit() for text in cells[1:]):
            end = max(end, int(cells[1]) + int(cells[2]))
    return -(-end // NEEDED_IDS) * NEEDED_IDS


def _delegation(user: User, places: Places) -> Iterator[Fix]:
    if not places.systemd.is_dir() or not (places.unified / "cgroup.controllers").exists():
        return
    file = places.etc / "systemd/system" / f"user@{user.uid}.service.d" / "seatrial.conf"
    text = f"[Service]\nDelegate={_DELEGATED}\n"
    if _text(file) != text:
        yield Fix(
            "delegation",
            "cgroup limits",
            f"let {user.name} divide a control group, from the next sign-in on: {file}",
            f"rm {file} && systemctl daemon-reload",
            partial(_delegate, file, text, places),
        )


def _delegate(file: Path, text: str, places: Places) -> None:
    _write(file, text)
    _call(("systemctl", "daemon-reload"), places)


def _set(setting: Path, value: str, file: Path, line: str) -> None:
    # First what can be refused: nothing is to stand in a file that does not hold.
    setting.write_text(value, encoding="ascii")
    _write(file, line)


def _write(file: Path, text: str) -> None:
    """Put the text in the place of the file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.seatrial")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(file)


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _setting(places: Places, name: str) -> str:
    return (_text(places.settings / name) or "").strip()


def _has(program: str, places: Places) -> bool:
    return shutil.which(program, path=places.search) is not None


def _call(command: Sequence[str], places: Places, *, seconds: float = _CALL_SECONDS) -> None:
    program = shutil.which(command[0], path=places.search)
    if program is None:
        package = _PACKAGES.get(command[0])
        hint = "" if package is None else f"; {how_to_install(package, release=places.etc / RELEASE.name)}"
        raise SandboxError("worker-error", f"there is no program {command[0]}{hint}")
    environment = {"PATH": places.search, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise SandboxError("worker-error", f"{command[0]} did not end in {seconds:g} s") from None
    if done.returncode != 0:
        last = " ".join((done.stderr or done.stdout).split())[-400:]
        raise SandboxError("worker-error", f"{command[0]} failed ({done.returncode}): {last}")
