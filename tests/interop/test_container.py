"""The container image of deploy/Containerfile: built here, and a worker in it as the manifest for Kubernetes
starts one. Nothing is fetched: scripts/debian.sh made the base image, with the packages that it installs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.integration.test_deploy import manifest
from tests.integration.worker.conftest import Yard, make_yard
from tests.kit.clients import Clients, client_home
from tests.kit.images import busybox_image
from tests.kit.sources import ROOT
from tests.kit.trials import worker_token

__all__ = ["make_yard"]
CONTAINERFILE = ROOT / "deploy" / "Containerfile"
BASE, BUILT = "docker.io/library/debian:bookworm-slim", "localhost/seatrial"
LOCKS = [ROOT / "deploy" / name for name in ("build.lock", "requirements.lock")]
# A container in a container may not raise its limits.
LIMITS = ("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1000:1000")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a worker in a container needs root")


@dataclass(frozen=True, slots=True)
class Built:
    """The image, and its root folder: with ``vfs`` each container of an image would be a copy of it all."""

    clients: Clients
    root: Path

    def run(self, *options: str, command: list[str]) -> str:
        """Run a container of it."""
        given = ("--cgroup-manager", "cgroupfs", "--runtime", "runc", "run", *LIMITS, "--network", "host")
        environment = ("--env", "PATH=/opt/seatrial/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        return self.clients.podman(*given, *environment, *options, "--rootfs", self.root, *command)


@contextmanager
def in_memory(folder: Path) -> Iterator[None]:
    """A folder that is on no disk: each step of a build is a copy of everything."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3g", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def wheels(tools: Path) -> Path:
    """What the locks name, fetched once for each state of them."""
    state = hashlib.sha256(b"".join(lock.read_bytes() for lock in LOCKS)).hexdigest()[:12]
    folder = tools / f"wheels-{state}"
    if not folder.exists():
        for stale in tools.glob("wheels-*"):
            shutil.rmtree(stale)
        fetched = tools / "wheels-unfinished"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--dest", fetched]
        options = ["--only-binary=:all:", "--python-version=3.11"]
        for lock in LOCKS:
            subprocess.run([*command, *options, "--requirement", lock], check=True, timeout=300)
        fetched.rename(folder)
    return folder


@pytest.fixture(scope="module")
def built(tools: Path, wheels: Path) -> Iterator[Built]:
    """The image, built from this tree."""
    bases = list(tools.glob("debian-12-bare-*.tar.zst"))
    if not bases:
        pytest.skip("there is no base image: make interop")
    with client_home() as home, in_memory(home.folder / "storage"):
        clients = replace(home, seconds=550)
        base = clients.folder / "base.tar"
        subprocess.run(["zstd", "-q", "-d", bases[0], "-o", base], check=True)
        clients.podman("--cgroup-manager", "cgroupfs", "import", "--quiet", base, BASE)
        base.unlink()
        (clients.folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /fetched\n")
        volumes = (
            f"{wheels}:/fetched",
            f"{clients.folder}/pip.conf:/etc/pip.conf",
            "/dev/null:/etc/apt/sources.list",
        )
        clients.buildah(
            *("build", "--pull-never", "--isolation", "chroot", "--network", "host", "--tag", BUILT),
            *(word for one in volumes for word in ("--volume", f"{one}:ro")),
            *("--file", CONTAINERFILE, ROOT),
        )
        yield Built(clients, Path(clients.podman("image", "mount", BUILT)))


@pytest.mark.timeout(600)
def test_the_image_is_what_its_file_says(built: Built) -> None:
    config = json.loads(built.clients.podman("image", "inspect", BUILT))[0]["Config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["seatrial"], ["up"])
    assert (
        built.run("--rm", command=["seatrial", "--version"])
        == re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    )  # type: ignore[index]
    # Nothing of how it was built is in it.
    assert not [name for name in ("build", "src", "wheels", "fetched/x") if (built.root / name).exists()]


def test_the_worker_of_the_manifest_tries_an_image(built: Built, make_yard: object, tmp_path: Path) -> None:
    yard: Yard = make_yard()  # type: ignore[operator]
    pod = manifest()["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {"privileged": True, "readOnlyRootFilesystem": True}

    async def token() -> str:
        async with yard.registry.client() as admin:
            return await worker_token(admin, "pool")

    there = {name: built.clients.folder / "there" / name for name in ("token", "state", "tmp")}
    for folder in there.values():
        folder.mkdir(parents=True)
    (there["token"] / "token").write_text(asyncio.run(token()))
    there["ids"] = Path("/run/seatrial")  # of the host, as its workers share it
    there["ids"].mkdir(exist_ok=True)
    built.clients.folder.chmod(0o711)
    mounts = [
        f"{there[one['name']]}:{one['mountPath']}{':ro' if one.get('readOnly') else ''}"
        for one in container["volumeMounts"]
    ]
    ours = {"--registry": yard.registry.url, "--metrics": "127.0.0.1:0"}
    options = dict(argument.split("=", 1) for argument in container["args"])
    given = [f"{option}={value}" for option, value in (options | ours).items()]
    yard.push(busybox_image(("/bin/sh", "-c", "echo from a container; cat /proc/self/uid_map")), "1")
    name = built.run(
        *("--detach", "--privileged", "--read-only", "--log-driver", "k8s-file"),
        *(word for mount in mounts for word in ("--volume", mount)),
        command=[*container["command"], *given],
    )
    try:
        trial = yard.verdict("1")
        said, ids = trial["runs"][0]["log"].splitlines()
        assert (trial["verdict"], said) == ("pass", "from a container"), trial["reason"]
        assert int(ids.split()[1]) >= 65536
        assert trial["parts"][0]["record"]["downgrades"] == []
        assert {one["name"] for one in trial["parts"][0]["record"]["mechanisms"] if one["applied"]} >= {
            *("cgroup limits", "user namespace", "seccomp", "outer seccomp", "own ids", "pivot_root")
        }
        built.clients.podman("stop", "--time", str(pod["terminationGracePeriodSeconds"]), name)
        ended = json.loads(built.clients.podman("inspect", name))[0]["State"]
        assert ended["ExitCode"] == 0
        assert not list(there["state"].glob("run*/*"))
    finally:
        print(built.clients.podman("logs", name)[-3000:])
        built.clients.podman("rm", "--force", name)
