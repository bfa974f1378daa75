"""A Docker engine of a test's own: root only, without a network for containers and without firewall rules."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.daemons import running_daemon

DOCKER = "/usr/bin/docker"
"""Debian's: elsewhere on the path may lie another version."""


@contextmanager
def running_docker() -> Iterator[tuple[str, ...]]:
    """Start one with folders of its own; what its client is told to find it."""
    with tempfile.TemporaryDirectory(prefix="docker-") as name:
        folder = Path(name)
        found = ("--host", f"unix://{folder / 'socket'}")
        command = [
            *("dockerd", *found, "--data-root", folder / "data", "--exec-root", folder / "run"),
            *("--pidfile", folder / "pid", "--storage-driver", "vfs", "--bridge", "none"),
            *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
        ]

        def is_ready() -> bool:
            return (
                subprocess.run([DOCKER, *found, "version"], capture_output=True, check=False).returncode == 0
            )

        with running_daemon(command, folder / "log", is_ready=is_ready):
            yield found
