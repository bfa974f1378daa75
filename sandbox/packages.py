"""What the packages of each distribution are called, and the line that installs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

RELEASE = Path("/etc/os-release")


@dataclass(frozen=True, slots=True)
class Family:
    """Distributions with the same packages. ``names`` are those that are not called as on Debian."""

    install: tuple[str, ...]
    names: Mapping[str, str]


_FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "debian": Family(("apt-get", "install", "--yes"), {}),
        "fedora": Family(
            ("dnf", "install", "--assumeyes"),
            # The package iproute has no tc; this one needs it.
            {"iproute2": "iproute-tc", "uidmap": "shadow-utils", "passwd": "shadow-utils"},
        ),
        "suse": Family(
            ("zypper", "--non-interactive", "install"),
            {"uidmap": "shadow", "passwd": "shadow", "apparmor": "apparmor-parser"},
        ),
        "arch": Family(("pacman", "--sync", "--noconfirm"), {"uidmap": "shadow", "passwd": "shadow"}),
        "alpine": Family(("apk", "add"), {"uidmap": "shadow-uidmap", "passwd": "shadow"}),
    }
)
_LIKE = MappingProxyType({"ubuntu": "debian", "rhel": "fedora", "centos": "fedora", "opensuse": "suse"})


def install_command(packages: Sequence[str], *, release: Path = RELEASE) -> tuple[str, ...] | None:
    """The command that installs ``packages``, named as on Debian; ``None`` on a distribution unknown here."""
    family = _family(release)
    if family is None:
        return None
    return (*family.install, *(family.names.get(name, name) for name in packages))


def how_to_install(*packages: str, release: Path = RELEASE) -> str:
    """The same for people."""
    command = install_command(packages, release=release)
    return f"install {' and '.join(packages)}" if command is None else " ".join(command)


def _family(release: Path) -> Family | None:
    try:
        lines = release.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    said = dict(line.split("=", 1) for line in lines if "=" in line)
    words = [said.get("ID", ""), *said.get("ID_LIKE", "").strip("\"'").split()]
    for word in (one.strip("\"'") for one in words):
        name = _LIKE.get(word, "suse" if word.startswith("opensuse") else word)
        if name in _FAMILIES:
            return _FAMILIES[name]
    return None
