"""The demo's two ways to build, push and pull: podman, or skopeo on an image layout that we write.

Neither touches what the user has: storage, credentials and run folders all lie in the demo's own folder.

What works where (podman 4.3, Debian 12):

- root: ``--root``, ``--runroot`` and ``--tmpdir`` of its own; ``vfs`` as storage driver, since ``overlay``
  may not lie on the overlay of a container; ``--cgroup-manager cgroupfs``, since there may be no systemd.
- a plain user: the same, where there are newuidmap and a range in /etc/subuid; else skopeo does it.
- building from scratch with COPY alone runs nothing and fetches nothing.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

COMMAND_SECONDS = 120
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Image:
    """An image to build: one static busybox and a shell command."""

    name: str
    script: str
    busybox: Path

    @property
    def command(self) -> list[str]:
        """What the image runs."""
        return ["/bin/busybox", "sh", "-c", self.script]


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are to the registry."""

    user: str
    password: str


class ClientError(Exception):
    """The client cannot work here, or was refused; the message is its own."""


class Podman:
    """``podman build``, ``push`` and ``pull``."""

    name = "podman"

    def __init__(self, folder: Path, registry: str) -> None:
        self._folder = folder
        self._registry = registry

    def build(self, image: Image) -> None:
        """Build ``image``.

        Raises:
            ClientError: podman cannot work here.
        """
        context = self._folder / f"context-{image.name}"
        context.mkdir()
        shutil.copyfile(image.busybox, context / "busybox")
        (context / "busybox").chmod(0o755)
        (context / "Containerfile").write_text(
            f"FROM scratch\nCOPY busybox /bin/busybox\nCMD {json.dumps(image.command)}\n"
        )
        self._run("pushing", "build", "--quiet", "--tag", f"localhost/{image.name}", str(context))

    def push(self, image: Image, reference: str, login: Login) -> None:
        """Push it as ``reference``.

        Raises:
            ClientError: it was refused, or podman cannot work here.
        """
        authfile = self._login("pushing", login)
        target = f"{self._registry}/{reference}"
        self._run("pushing", "push", "--quiet", *_insecure(authfile), f"localhost/{image.name}", target)

    def pull(self, reference: str, login: Login) -> None:
        """Show and do a pull of ``reference`` into a storage that holds nothing.

        Raises:
            ClientError: it was refused.
        """
        authfile = self._login("pulling", login)
        target = f"{self._registry}/{reference}"
        print(f"  $ podman pull --tls-verify=false {target}", flush=True)
        self._run("pulling", "pull", "--quiet", *_insecure(authfile), target)

    def _login(self, storage: str, login: Login) -> Path:
        authfile = self._folder / f"auth-{login.user}.json"
        if not authfile.exists():
            self._run(
                storage, "login", *_insecure(authfile), "--username", login.user, "--password-stdin",
                self._registry, stdin=login.password,
            )  # fmt: skip
        return authfile

    def _run(self, storage: str, *arguments: str, stdin: str = "") -> str:
        base = self._folder / f"podman-{storage}"
        base.mkdir(exist_ok=True)
        return _call(
            "podman", "--root", str(base / "root"), "--runroot", str(base / "runroot"),
            "--tmpdir", str(base / "tmp"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
            "--events-backend", "none", *arguments,
            stdin=stdin, folder=self._folder,
        )  # fmt: skip


class Skopeo:
    """``skopeo copy`` from and to an image layout; the layout is written here, without any tool."""

    name = "skopeo"

    def __init__(self, folder: Path, registry: str) -> None:
        self._folder = folder
        self._registry = registry

    def build(self, image: Image) -> None:
        """Write ``image`` as an image layout."""
        write_layout(image, self._folder / f"layout-{image.name}")

    def push(self, image: Image, reference: str, login: Login) -> None:
        """Push it as ``reference``.

        Raises:
            ClientError: it was refused.
        """
        source = f"oci:{self._folder / f'layout-{image.name}'}:latest"
        self._copy("dest", login, source, f"docker://{self._registry}/{reference}")

    def pull(self, reference: str, login: Login) -> None:
        """Show and do a pull of ``reference`` into a new layout.

        Raises:
            ClientError: it was refused.
        """
        target = self._folder / f"pulled-{len(list(self._folder.glob('pulled-*')))}"
        source = f"docker://{self._registry}/{reference}"
        print(f"  $ skopeo copy --src-tls-verify=false {source} oci:{target.name}", flush=True)
        self._copy("src", login, source, f"oci:{target}:latest")

    def _copy(self, side: str, login: Login, source: str, target: str) -> None:
        authfile = self._folder / f"auth-{login.user}.json"
        if not authfile.exists():
            _call(
                "skopeo", "login", *_insecure(authfile), "--username", login.user, "--password-stdin",
                self._registry, stdin=login.password, folder=self._folder,
            )  # fmt: skip
        policy = self._folder / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        _call(
            "skopeo", "--policy", str(policy), "--tmpdir", str(self._folder), "copy", "--quiet",
            "--remove-signatures", f"--{side}-tls-verify=false", f"--{side}-authfile={authfile}",
            source, target, folder=self._folder,
        )  # fmt: skip


def tidy(folder: Path) -> None:
    """Remove the folder, and the process that podman leaves behind for a plain user to hold its namespace."""
    for pause in folder.glob("podman-*/tmp/pause.pid"):
        with contextlib.suppress(ValueError, ProcessLookupError, PermissionError):
            os.kill(int(pause.read_text()), signal.SIGKILL)
    for parent, _, _ in os.walk(folder):
        with contextlib.suppress(PermissionError):
            Path(parent).chmod(0o700)  # an image's root folder is kept read-only
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        # What a plain user's runs unpacked belongs to the ids of their user namespaces.
        subprocess.run(
            ["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", folder],
            capture_output=True, check=False,
        )  # fmt: skip


def write_layout(image: Image, folder: Path) -> None:
    """Write an image layout of one layer (image-spec, image-layout.md)."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        member = tarfile.TarInfo("bin")
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(member)
        member = archive.gettarinfo(str(image.busybox), arcname="bin/busybox")
        member.mode, member.uid, member.gid, member.uname, member.gname = 0o755, 0, 0, "", ""
        with image.busybox.open("rb") as content:
            archive.addfile(member, content)
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Cmd": image.command},
        "rootfs": {"type": "layers", "diff_ids": [_digest(plain.getvalue())]},
    }
    vnd = "application/vnd.oci.image"
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layer = _put(blobs, f"{vnd}.layer.v1.tar+gzip", gzip.compress(plain.getvalue(), mtime=0))
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{vnd}.manifest.v1+json",
        "config": _put(blobs, f"{vnd}.config.v1+json", json.dumps(config).encode()),
        "layers": [layer],
    }
    entry = _put(blobs, f"{vnd}.manifest.v1+json", json.dumps(manifest).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def _put(blobs: Path, media_type: str, content: bytes) -> dict[str, object]:
    digest = _digest(content)
    (blobs / digest.removeprefix("sha256:")).write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _insecure(authfile: Path) -> list[str]:
    return ["--tls-verify=false", "--authfile", str(authfile)]


def _call(*command: str, folder: Path, stdin: str = "") -> str:
    # Whatever the user keeps in a home or a run folder stays out of it.
    environment = {
        "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "TMPDIR": str(folder),
    }
    (folder / "run").mkdir(mode=0o700, exist_ok=True)
    try:
        done = subprocess.run(
            command, input=stdin, env=environment, cwd=folder, capture_output=True, text=True,
            timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise ClientError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise ClientError(f"{command[0]} did not end within {COMMAND_SECONDS} s") from None
    if done.returncode != 0:
        raise ClientError(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")
    return done.stdout.strip()
