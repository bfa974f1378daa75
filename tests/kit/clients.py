"""podman, skopeo and buildah with storage, credentials and run folders of a test's own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS = 100


class ClientError(Exception):
    """The client ended with an error; the message is what it said."""


@contextmanager
def client_home() -> Iterator[Clients]:
    """Clients with a home of their own, under a short path: podman takes no run folder beyond 50 letters."""
    with tempfile.TemporaryDirectory(prefix="home-") as folder:
        yield Clients(Path(folder))


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of one user, who keeps everything in ``folder``."""

    folder: Path

    def podman(self, *arguments: str, stdin: str = "") -> str:
        """Run podman; returns what it printed."""
        own = (*self._storage(), "--tmpdir", str(self.folder / "libpod"), "--events-backend", "none")
        return self._run("podman", *own, *arguments, stdin=stdin)

    def buildah(self, *arguments: str, stdin: str = "") -> str:
        """Run buildah; returns what it printed."""
        return self._run("buildah", *self._storage(), *arguments, stdin=stdin)

    def skopeo(self, *arguments: str, stdin: str = "") -> str:
        """Run skopeo; returns what it printed."""
        return self._run("skopeo", "--tmpdir", str(self.folder), *arguments, stdin=stdin)

    def _storage(self) -> tuple[str, ...]:
        # vfs: overlay may not lie on the overlay of a container.
        root, run = self.folder / "storage", self.folder / "runroot"
        return "--root", str(root), "--runroot", str(run), "--storage-driver", "vfs"

    def _run(self, *command: str, stdin: str) -> str:
        run = self.folder / "run"
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(run),
            "TMPDIR": str(self.folder),
            "REGISTRY_AUTH_FILE": str(self.folder / "auth.json"),
            # Without it buildah starts itself again in a user namespace.
            "BUILDAH_ISOLATION": "chroot",
        }
        done = subprocess.run(
            command,
            input=stdin,
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise ClientError(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")
        return done.stdout.strip()
