"""What of the whole host a run could change: the proof that it did not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Settings that a way out of a container would go through, or that one run could turn for all.
_SETTINGS = """
    kernel/core_pattern kernel/modprobe kernel/hostname kernel/domainname kernel/randomize_va_space
    kernel/pid_max kernel/threads-max vm/overcommit_memory vm/swappiness fs/file-max fs/aio-max-nr
    fs/protected_symlinks fs/protected_hardlinks net/ipv4/ip_forward net/ipv4/ip_unprivileged_port_start
    user/max_user_namespaces user/max_mnt_namespaces user/max_net_namespaces user/max_pid_namespaces
"""


@dataclass(frozen=True, slots=True)
class HostState:
    """Comparable before and after."""

    settings: tuple[tuple[str, str], ...]
    descriptors: tuple[str, ...]
    """Of the calling process."""
    keys: int


def host_state() -> HostState:
    """Now."""
    settings = Path("/proc/sys")
    return HostState(
        settings=tuple(
            (name, (settings / name).read_text()) for name in _SETTINGS.split() if (settings / name).exists()
        ),
        descriptors=tuple(sorted(_descriptors())),
        keys=sum("seatrial" in line for line in Path("/proc/keys").read_text().splitlines()),
    )


def _descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:
            continue
    return found
