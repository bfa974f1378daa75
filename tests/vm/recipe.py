"""What the machine's disk is made from. The disk is kept under the hash of all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# The first state of the release, which is never changed: two builds give the same.
SUITE, MIRROR, COMPONENTS = "noble", "http://archive.ubuntu.com/ubuntu", "main universe"
KERNEL = "6.8.0-31-generic"
PYTHON = "3.12"
PLATFORMS = (
    "manylinux_2_34_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)
"""Wheels of any of these run on that release's C library."""
_PACKAGES = f"""
    linux-image-{KERNEL} python3 runc crun catatonit apparmor iproute2 nftables busybox-static uidmap
    e2fsprogs kmod libstdc++6 procps selinux-policy-default policycoreutils systemd
"""
_LIBRARIES = ("seatrial", "pytest", "pytest-asyncio", "pytest-timeout")
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /cargo
mount /dev/vdb /cargo
exec /bin/sh /cargo/tests/vm/inside/init.sh
"""
COMMAND = "#!/usr/bin/python3\nfrom registry.main import main\nmain()\n"


@dataclass(frozen=True, slots=True)
class Recipe:
    """``files`` are added to the packages, by their place; ``module`` is the SELinux module to install."""

    suite: str
    mirror: str
    components: str
    packages: tuple[str, ...]
    requirements: str
    """Python's, as pip reads them, with hashes."""
    files: Mapping[str, str]
    module: str

    def digest(self) -> str:
        """Changes with anything that the disk is made from."""
        steps = (HERE / "build.py").read_text(encoding="utf-8")
        return hashlib.sha256(json.dumps([asdict(self), steps], sort_keys=True).encode()).hexdigest()[:16]


def make_recipe() -> Recipe:
    """As this checkout says."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return Recipe(
        suite=SUITE,
        mirror=MIRROR,
        components=COMPONENTS,
        packages=tuple(_PACKAGES.split()),
        requirements=pick(lock, needed(_LIBRARIES)),
        files={
            "sbin/seatrial-init": INIT,
            "usr/bin/seatrial": COMMAND,
            "opt/seatrial/bin/seatrial": COMMAND,
            # Without one, systemd takes each start for the first.
            "etc/machine-id": f"{'5ea7':0>32}\n",
            "usr/lib/python3/dist-packages/seatrial.pth": "/opt/packages\n/cargo\n",
        },
        module=(ROOT / "sandbox/lsm/seatrial-run.cil").read_text(encoding="utf-8"),
    )


def needed(names: Sequence[str]) -> frozenset[str]:
    """The distributions that ``names`` need on the machine's Python, and they themselves but for ours."""
    environment = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "extra": ""}
    found: set[str] = set()
    open_ends = list(names)
    while open_ends:
        name = canonicalize_name(open_ends.pop())
        if name not in found:
            found.add(name)
            wanted = (Requirement(text) for text in requires(name) or ())
            open_ends += [
                one.name for one in wanted if one.marker is None or one.marker.evaluate(environment)
            ]
    return frozenset(found - {"seatrial"})


def pick(lock: str, names: frozenset[str]) -> str:
    """The lines of a lock file that are about ``names``, with their hashes.

    Raises:
        KeyError: the lock knows one of them not.
    """
    entries: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in lock.splitlines():
        if line[:1].isalnum():
            lines = entries.setdefault(canonicalize_name(line.partition("==")[0].partition("[")[0]), [])
        if line.strip() and not line.strip().startswith("#"):
            lines.append(line)
    return "".join(f"{line}\n" for name in sorted(names) for line in entries[name])
