"""A containerd of a test's own, for ``ctr``: root only, and without what a host may lack."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kit.clients import ClientError, Screen
from tests.kit.daemons import running_daemon

SECONDS = 120
_UNUSED = ("grpc.v1.cri", "snapshotter.v1.aufs", "snapshotter.v1.btrfs", "snapshotter.v1.devmapper",
           "snapshotter.v1.zfs", "internal.v1.opt")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Containerd:
    """A containerd that listens on ``socket``, and its client."""

    socket: Path

    def ctr(self, *arguments: str | Path) -> str:
        """Run ``ctr``; returns what it printed.

        Raises:
            ClientError: it failed.
        """
        done = self._run(arguments, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise ClientError(done.stderr.strip())
        return done.stdout.strip()

    def screen(self, *arguments: str | Path) -> Screen:
        """Run ``ctr``, well or not, and look at the screen."""
        done = self._run(arguments, stderr=subprocess.STDOUT)
        return Screen(done.returncode, tuple(line for line in done.stdout.splitlines() if line.strip()))

    def nerdctl(self, home: Path) -> tuple[str, ...]:
        """What nerdctl is told to find it, and to keep its own things in ``home``."""
        return (
            *("--address", str(self.socket), "--snapshotter", "native"),
            *("--data-root", str(home / "nerdctl"), "--cni-netconfpath", str(home / "cni")),
        )

    def _run(self, arguments: tuple[str | Path, ...], *, stderr: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ctr", "--address", self.socket, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@contextmanager
def running_containerd() -> Iterator[Containerd]:
    """Start one with folders of its own and wait until it answers."""
    with tempfile.TemporaryDirectory(prefix="containerd-") as name:
        folder = Path(name)
        made = Containerd(folder / "grpc.sock")
        unused = ", ".join(f'"io.containerd.{plugin}"' for plugin in _UNUSED)
        (folder / "config.toml").write_text(
            f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
            f"disabled_plugins = [{unused}]\n"
            f'[grpc]\naddress = "{made.socket}"\n[ttrpc]\naddress = "{folder}/ttrpc.sock"\n'
        )
        command = ["containerd", "--config", folder / "config.toml"]
        with running_daemon(command, folder / "log", is_ready=lambda: made.screen("version").code == 0):
            yield made
