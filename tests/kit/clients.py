"""Clients with a home, storage and credentials of a test's own: Debian's, and those built with Go.

::

    with client_home(tools) as clients:
        clients.sign_in(registry.host, ADMIN, registry.token)
        clients.run("oras", "repo", "tags", "--plain-http", f"{registry.host}/team/app")
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS = 150


class ClientError(Exception):
    """The client ended with an error; the message is what it said."""


@contextmanager
def client_home(tools: Path | None = None) -> Iterator[Clients]:
    """Clients with a home of their own, under a short path: podman takes no run folder beyond 50 letters.

    ``tools`` is the folder with those that ``make interop`` builds.
    """
    with tempfile.TemporaryDirectory(prefix="home-") as folder:
        made = Clients(Path(folder), tools)
        made.sign_out()
        yield made


@dataclass(frozen=True, slots=True)
class Screen:
    """What a person has before them when the client has ended: exit code, and all lines of both streams."""

    code: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of one user, who keeps everything in ``folder``."""

    folder: Path
    tools: Path | None = None
    seconds: float = SECONDS
    """What each may take."""

    def podman(self, *arguments: str | Path, stdin: str = "") -> str:
        """Run podman; returns what it printed."""
        return self.run("podman", *arguments, stdin=stdin)

    def buildah(self, *arguments: str | Path, stdin: str = "") -> str:
        """Run buildah; returns what it printed."""
        return self.run("buildah", *arguments, stdin=stdin)

    def skopeo(self, *arguments: str | Path, stdin: str = "") -> str:
        """Run skopeo; returns what it printed."""
        return self.run("skopeo", *arguments, stdin=stdin)

    def run(self, program: str, *arguments: str | Path, stdin: str = "") -> str:
        """Run any client; returns what it printed on its standard output.

        Raises:
            ClientError: it failed.
        """
        done = self._start(program, arguments, stdin, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise ClientError(done.stderr.strip() or f"{program} ended with {done.returncode}: {done.stdout}")
        return done.stdout.strip()

    def screen(self, program: str, *arguments: str | Path, stdin: str = "") -> Screen:
        """Run any client, well or not, and look at the screen."""
        done = self._start(program, arguments, stdin, stderr=subprocess.STDOUT)
        return Screen(done.returncode, tuple(line for line in done.stdout.splitlines() if line.strip()))

    def sign_in(self, host: str, username: str, password: str) -> None:
        """Leave the credentials where every client looks for them, without asking the registry."""
        secret = base64.b64encode(f"{username}:{password}".encode()).decode()
        (self.folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": secret}}}))

    def sign_in_with_refresh_token(self, host: str, username: str, refresh_token: str) -> None:
        """As :meth:`sign_in`, with what docker keeps after its login in the place of the password."""
        nothing = base64.b64encode(f"{username}:".encode()).decode()
        kept = {"auth": nothing, "identitytoken": refresh_token}
        (self.folder / "config.json").write_text(json.dumps({"auths": {host: kept}}))

    def sign_out(self) -> None:
        """Leave no credentials."""
        (self.folder / "config.json").write_text("{}")

    def _start(
        self, program: str, arguments: tuple[str | Path, ...], stdin: str, *, stderr: int
    ) -> subprocess.CompletedProcess[str]:
        run = self.folder / "run"
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = os.environ["PATH"] if self.tools is None else f"{self.tools}:{os.environ['PATH']}"
        environment = {
            "PATH": path,
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(run),
            "TMPDIR": str(self.folder),
            "REGISTRY_AUTH_FILE": str(self.folder / "config.json"),
            "DOCKER_CONFIG": str(self.folder),
            "HELM_REGISTRY_CONFIG": str(self.folder / "config.json"),
            "COSIGN_PASSWORD": "",
            # Without it buildah starts itself again in a user namespace.
            "BUILDAH_ISOLATION": "chroot",
        }
        return subprocess.run(
            (program, *self._own_options(program), *arguments),
            input=stdin,
            env=environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=self.seconds,
            check=False,
        )

    def _own_options(self, program: str) -> tuple[str, ...]:
        # vfs: overlay may not lie on the overlay of a container.
        root, run = self.folder / "storage", self.folder / "runroot"
        storage = ("--root", str(root), "--runroot", str(run), "--storage-driver", "vfs")
        match program:
            case "podman":
                return (*storage, "--tmpdir", str(self.folder / "libpod"), "--events-backend", "none")
            case "buildah":
                return storage
            case "skopeo":
                return ("--tmpdir", str(self.folder))
            case "crane":
                return ("--insecure",)
        return ()
