"""What each client leaves on the screen when the registry refuses: the scene, the commands, the last line."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiohttp

from tests.kit.access import make_repository, make_token, make_user
from tests.kit.buildkit import build, running_buildkit
from tests.kit.clients import Clients, Screen, client_home
from tests.kit.containerd import Containerd, running_containerd
from tests.kit.distribution import push_image
from tests.kit.docker import DOCKER, running_docker
from tests.kit.images import Image, file, make_image, make_layer, write_layout, write_layout_tar
from tests.kit.server import ADMIN, Registry, RegistryProcess
from tests.kit.trials import ScriptedWorker, worker_token

CLIENTS = (
    *("podman", "skopeo", "buildah", "crane", "regctl", "oras", "helm", "cosign", "notation"),
    *("ctr", "nerdctl", "docker", "buildctl"),
)
LIMIT = 8 * 1024
TAG = "1.0.0"
LARGE = "registry.test/large:1"
"""An image beyond the limit, in the engines that have images of their own."""
PASSWORD = "a long enough password"
Act = Literal["login", "pull", "push"]
_PLAIN = "--tls-verify=false"
_HTTP = "--plain-http"
_COSIGN = "--allow-http-registry"


def _image(size: int) -> Image:
    return make_image(make_layer(file("x", os.urandom(size))), config={"Cmd": ["/x"]})


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is tried: where, on which repository, as whom (``None``: nobody), and what comes ``first``."""

    act: Act
    registry: Registry
    repository: str
    login: tuple[str, str] | None
    first: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Three registries (with a small limit, read-only, full), clients, and what is refused."""

    clients: Clients
    containerd: Containerd
    engines: Mapping[str, tuple[str, ...]]
    attempts: dict[str, Attempt]
    image_id: str
    layout: Path

    def last_line(self, refusal: str, client: str) -> str:
        """The last line that ``client`` prints when it is refused so, without what differs from run to run.

        Raises:
            AssertionError: it was not refused.
        """
        attempt = self.attempts[refusal]
        screen = self._screen(client, attempt)
        assert screen.code != 0, f"{client} was not refused: {screen.lines}"
        return normal(screen.lines[-1], home=self.clients.folder)

    def _screen(self, client: str, attempt: Attempt) -> Screen:
        if client == "ctr":
            return self._ctr(attempt)
        if client in self.engines:
            return self._with_engine(client, attempt)
        if attempt.act == "login":
            assert attempt.login is not None
            username, password = attempt.login
            command = _login(client, attempt.registry.host, username)
            if command is not None:
                return self.clients.screen(client, *command, stdin=password)
        reference = f"{attempt.registry.host}/{attempt.repository}:{TAG}"
        command = self._push(client, reference) if attempt.act == "push" else self._pull(client, reference)
        return self.clients.screen(client, *command)

    def _ctr(self, attempt: Attempt) -> Screen:
        login = () if attempt.login is None else ("--user", ":".join(attempt.login))
        reference = f"{attempt.registry.host}/{attempt.repository}:{TAG}"
        if attempt.act == "push":
            return self.containerd.screen("images", "push", *login, _HTTP, reference, LARGE)
        return self.containerd.screen("images", "pull", *login, _HTTP, "--snapshotter", "native", reference)

    def _with_engine(self, client: str, attempt: Attempt) -> Screen:
        """Run a client that has its engine do it: what engines push they have already."""
        options = self.engines[client]
        reference = f"{attempt.registry.host}/{attempt.repository}:{TAG}"
        if client == "buildctl":
            file = self.clients.folder / f"Dockerfile-{attempt.act}"
            file.write_text(f"FROM {reference}" if attempt.act != "push" else "FROM scratch\nCOPY big.bin /")
            output = ("--output", f"type=image,name={reference},push=true")
            return self.clients.screen(
                client, *options, *build(file.name, *(output if attempt.act == "push" else ()))
            )
        program = DOCKER if client == "docker" else client
        if attempt.act == "login":
            assert attempt.login is not None
            username, password = attempt.login
            login = ("login", "-u", username, "--password-stdin", attempt.registry.host)
            return self.clients.screen(program, *options, *login, stdin=password)
        if attempt.act == "push":
            self.clients.run(program, *options, "tag", LARGE, reference)
        return self.clients.screen(program, *options, attempt.act, reference)

    def _pull(self, client: str, reference: str) -> tuple[str | Path, ...]:
        into = self.clients.folder / "pulled" / client
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        match client:
            case "podman" | "buildah":
                return "pull", _PLAIN, reference
            case "skopeo":
                return "copy", f"--src{_PLAIN[1:]}", f"docker://{reference}", f"oci:{into}"
            case "crane":
                return "pull", reference, into / "image.tar"
            case "regctl":
                return "image", "copy", reference, f"ocidir://{into}"
            case "oras":
                return "pull", _HTTP, "--output", into, reference
            case "helm":
                name = reference.removesuffix(f":{TAG}")
                return "pull", _HTTP, "--version", TAG, "--destination", into, f"oci://{name}"
            case "notation":
                return "list", "--insecure-registry", reference
        return "verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", _COSIGN, reference

    def _push(self, client: str, reference: str) -> tuple[str | Path, ...]:
        match client:
            case "podman":
                return "push", _PLAIN, self.image_id, reference
            case "buildah":
                return "push", _PLAIN, self.image_id, f"docker://{reference}"
            case "skopeo":
                return "copy", f"--dest{_PLAIN[1:]}", f"oci:{self.layout}:1", f"docker://{reference}"
            case "crane":
                return "push", self.layout, reference
            case "regctl":
                return "artifact", "put", "--artifact-type", "application/x", "--file", "big.bin", reference
            case "oras":
                return "push", _HTTP, reference, "big.bin"
            case "helm":
                folder = reference.rpartition("/")[0]
                return "push", _HTTP, f"app-{TAG}.tgz", f"oci://{folder}"
            case "notation":
                # What a signature says beside the digest: a plain one is too small for most of this.
                large = ("--user-metadata", f"text={'x' * 2 * LIMIT}")
                return "sign", "--insecure-registry", "--force-referrers-tag=false", *large, reference
        predicate = ("--type", "custom", "--predicate", "predicate.json")
        offline = ("--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false", "--yes")
        return "attest", *offline, _COSIGN, *predicate, reference


def _login(client: str, host: str, username: str) -> tuple[str, ...] | None:
    """How a client signs in by asking the registry; ``None`` where it only writes the password down."""
    given = ("-u", username, "--password-stdin", host)
    match client:
        case "podman" | "skopeo" | "buildah":
            return "login", _PLAIN, *given
        case "regctl":
            return "registry", "login", "-u", username, "--pass-stdin", host
        case "oras":
            return "login", _HTTP, *given
        case "helm":
            return "registry", "login", _HTTP, *given
        case "notation":
            return "login", "--insecure-registry", *given
    return None


def normal(line: str, *, home: Path) -> str:
    """The line with names for what differs from run to run, as it would be at ``registry.example``."""
    replaced = (
        (re.escape(str(home)), "~"),
        (r"\x1b\[[0-9;]*m", ""),
        (r'time="[^"]*"|time=\S+', "time=…"),
        (r"127\.0\.0\.1:\d+", "registry.example"),
        (r"sha256(:|%3A)[0-9a-f]{64}", r"sha256\1…"),
        (r"trials/[0-9a-f-]{36}", "trials/…"),
        (r"(trial:|\"trial\": \")[0-9a-f-]{36}", r"\1…"),
        (r"uploads/[0-9a-f]{32}", "uploads/…"),
        (r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", "2026-11-24 22:09 UTC"),
        (r'pushing image "[0-9a-f]+"', 'pushing image "…"'),
        (r"holds \d+ of the (\d+) bytes that its quota allows, and this needs \d+",
         r"holds 2048 of the \1 bytes that its quota allows, and this needs 16384"),
        (r'(used|needed)_bytes("?:\s*)\d+', r"\1_bytes\2…"),
        (r"this (blob|body) has (\d+ bytes|more)", r"this \1 has 16384 bytes"),
    )  # fmt: skip
    for pattern, name in replaced:
        line = re.sub(pattern, name, line)
    return line.strip()


@contextmanager
def opened_scene(folder: Path, tools: Path) -> Iterator[Scene]:
    """Start everything. Needs root: to mount a small disk, and for containerd."""
    with ExitStack() as stack:
        full = folder / "full"
        full.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", full], check=True)
        stack.callback(subprocess.run, ["umount", full], check=True)

        def start(name: str, **settings: str) -> tuple[RegistryProcess, Registry]:
            # Nine clients with a wrong password are more than one person.
            common = {"gate_wait_seconds": "0", "trial_platforms": "linux/amd64", "failed_sign_ins": "100"}
            process = RegistryProcess(folder / name, **(common | settings))
            stack.callback(process.stop)
            return process, process.start()

        usual = start("usual", blob_max_bytes=str(LIMIT))[1]
        disk = start("full-data", storage_url=f"file://{full}", reserve_bytes=str(1 << 20))[1]
        writable, frozen = start("read-only")
        expired = asyncio.run(_fill(usual, disk, frozen))

        def fill() -> None:
            room = os.statvfs(full)
            (full / "ballast").write_bytes(bytes(room.f_bavail * room.f_frsize - (1 << 20)))

        writable.stop()
        frozen = start("read-only", read_only="true")[1]
        clients = stack.enter_context(client_home(tools))
        containerd = stack.enter_context(running_containerd())
        large = _image(2 * LIMIT)
        layout = write_layout(folder / "layout", large, tag="1")
        containerd.ctr(
            *("images", "import", "--no-unpack", "--base-name", LARGE.removesuffix(":1")),
            write_layout_tar(folder / "large.tar", large, tag="1"),
        )
        hosts = (usual.host, disk.host, frozen.host)
        engines = {
            "nerdctl": containerd.nerdctl(folder),
            "docker": stack.enter_context(running_docker()),
            "buildctl": stack.enter_context(running_buildkit(tools, *hosts)),
        }
        _prepare(clients, usual, disk, frozen)
        clients.run(DOCKER, *engines["docker"], "import", "big.tar", LARGE)
        maria, admin = ("maria", PASSWORD), (ADMIN, usual.token)
        yield Scene(
            clients,
            containerd,
            engines,
            {
                "no login, pull": Attempt("pull", usual, "hidden/app", None),
                "no login, push": Attempt("push", usual, "hidden/app", None),
                "expired token": Attempt("pull", usual, "hidden/app", (ADMIN, expired)),
                "no push right": Attempt("push", usual, "shared/app", maria),
                "no right at all": Attempt("push", usual, "hidden/app", maria),
                "gate: failed": Attempt("pull", usual, "failed/app", maria),
                "gate: pending": Attempt("pull", usual, "pending/app", maria),
                "read-only": Attempt("push", frozen, "team/app", (ADMIN, frozen.token)),
                "quota": Attempt("push", disk, "small/app", (ADMIN, disk.token)),
                "disk full": Attempt("push", disk, "team/app", (ADMIN, disk.token), fill),
                "too large": Attempt("push", usual, "team/app", admin),
                # The last: regctl keeps what it was told here above what it is told elsewhere.
                "wrong password": Attempt("login", usual, "hidden/app", ("maria", "wrong")),
            },
            clients.podman("pull", "--quiet", f"oci:{layout}:1"),
            layout,
        )


async def _fill(usual: Registry, disk: Registry, frozen: Registry) -> str:
    """Push what is asked for later; a token that has expired."""
    # What cosign attests something of.
    bare = make_image(config={"Cmd": ["/x"]})
    for registry in (usual, disk, frozen):
        async with registry.client() as admin:
            await push_image(admin, "team/app", TAG, bare)
    async with disk.client() as admin:
        await make_repository(admin, "small/app", quota_bytes=LIMIT)
        await push_image(admin, "small/app", TAG, bare)
    async with usual.client() as admin:
        for repository, visibility in (("hidden/app", "private"), ("shared/app", "internal")):
            await make_repository(admin, repository, visibility=visibility)
            await push_image(admin, repository, TAG, bare)
        for repository in ("failed/app", "pending/app"):
            await make_repository(
                admin, repository, visibility="internal", gate="enforce", trial_on_push=True
            )
        await push_image(admin, "failed/app", TAG, _image(10))
        headers = {"Authorization": f"Bearer {await worker_token(admin, 'worker')}"}
        async with aiohttp.ClientSession(usual.url, headers=headers) as client:
            worker = ScriptedWorker(client, "worker")
            answer = await worker.report(await worker.claim(), met=False, exit_code=3)
            assert answer.status == 204, answer.body
        await push_image(admin, "pending/app", TAG, _image(10))
        await make_user(admin, "maria", password=PASSWORD)
        token = str((await make_token(admin, "repository:*:pull", expires_seconds=1))["token"])
        async with usual.client(token) as client, asyncio.timeout(30):
            while (await client.get("/v2/")).status == 200:  # noqa: ASYNC110  (another process)
                await asyncio.sleep(0.2)
        return token


def _prepare(clients: Clients, *registries: Registry) -> None:
    """What the clients need at home before they are refused."""
    (clients.folder / "big.bin").write_bytes(os.urandom(2 * LIMIT))
    (clients.folder / "predicate.json").write_text(f'{{"text": "{"x" * 2 * LIMIT}"}}')
    chart = clients.folder / "app"
    chart.mkdir()
    (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: app\nversion: {TAG}\n")
    (chart / "big.bin").write_bytes(os.urandom(2 * LIMIT))
    clients.run("helm", "package", chart, "--destination", clients.folder)
    clients.run("cosign", "generate-key-pair")
    clients.run("notation", "cert", "generate-test", "--default", "seatrial.test")
    with tarfile.open(clients.folder / "big.tar", "w") as archive:
        archive.add(clients.folder / "big.bin", "big.bin")
    for registry in registries:
        clients.run("regctl", "registry", "set", "--skip-check", "--tls", "disabled", registry.host)
