"""What podman, skopeo and buildah do with a registry, against the real server."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.access import api
from tests.kit.clients import ClientError, Clients, client_home
from tests.kit.images import busybox_image, file, layer_of, make_image, make_index, make_layer, write_layout
from tests.kit.server import ADMIN, Registry, RegistryProcess
from tests.kit.warm import run_seatrial

ONE = busybox_image(["/bin/sh", "-c", "echo one"])
TWO = busybox_image(["/bin/sh", "-c", "echo two"], layers=[make_layer(file("two", b"2"))])
ARM = busybox_image(["/bin/sh", "-c", "echo arm"], platform="linux/arm64")
INDEX = make_index(ONE, ARM)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One server for the module; each test has repositories of its own."""
    process = RegistryProcess(tmp_path_factory.mktemp("registry") / "data")
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
def stranger() -> Iterator[Clients]:
    """Clients of somebody without credentials."""
    with client_home() as made:
        yield made


@pytest.fixture
def clients(registry: Registry) -> Iterator[Clients]:
    """Clients that are signed in."""
    with client_home() as made:
        login = ("login", *INSECURE, "--username", ADMIN, "--password-stdin", registry.host)
        made.skopeo(*login, stdin=registry.token)
        yield made


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image layout with all images of this module, as skopeo names it."""
    folder = tmp_path_factory.mktemp("layout")
    return f"oci:{write_layout(folder, ONE, TWO, INDEX, tag=['one', 'two', 'index'])}"


INSECURE = ("--tls-verify=false",)
FROM = ("--src-tls-verify=false",)
TO = ("--dest-tls-verify=false",)
SAME = ("--preserve-digests",)
"""Root's cache of blobs, which no option moves, knows the same layers compressed otherwise, and uses them."""


def test_signing_in(stranger: Clients, registry: Registry) -> None:
    login = ("login", *INSECURE, "--username", ADMIN, "--password-stdin", registry.host)
    with pytest.raises(ClientError, match=r"(?i)invalid username/password"):
        stranger.podman(*login, stdin="wrong")
    assert "Login Succeeded" in stranger.podman(*login, stdin=registry.token)
    assert "Login Succeeded" in stranger.buildah(*login, stdin=registry.token)


def test_nobody_pulls_what_is_private(
    clients: Clients, stranger: Clients, registry: Registry, layout: str
) -> None:
    clients.skopeo("copy", *TO, f"{layout}:one", f"docker://{registry.host}/secret/app:1")
    said = {}
    for name in ("secret/app", "secret/none"):
        with pytest.raises(ClientError) as caught:
            stranger.skopeo("inspect", *INSECURE, f"docker://{registry.host}/{name}:1")
        said[name] = re.sub(r"^time=\S+ ", "", str(caught.value)).replace(name, "NAME")
    assert said["secret/app"] == said["secret/none"]
    assert "unauthorized" in said["secret/app"].lower()


def test_podman_pushes_and_pulls(clients: Clients, registry: Registry, layout: str) -> None:
    name = f"{registry.host}/podman/app"
    image = clients.podman("pull", "--quiet", f"{layout}:two")
    clients.podman("push", "--quiet", *INSECURE, image, f"{name}:v1")
    clients.podman("push", "--quiet", *INSECURE, image, f"{name}:v2")
    clients.podman("rmi", "--all", "--force")
    assert clients.podman("pull", "--quiet", *INSECURE, f"{name}:v1") == image
    config = json.loads(clients.podman("image", "inspect", image))[0]
    assert config["Config"]["Cmd"] == ["/bin/sh", "-c", "echo two"]
    (digest,) = {text.partition("@")[2] for text in config["RepoDigests"]}
    clients.podman("rmi", "--all", "--force")
    assert clients.podman("pull", "--quiet", *INSECURE, f"{name}@{digest}") == image
    (listed,) = json.loads(clients.podman("search", *INSECURE, "--list-tags", "--format", "json", name))
    assert listed["Tags"] == ["v1", "v2"]
    found = json.loads(clients.podman("search", *INSECURE, "--format", "json", f"{registry.host}/podman"))
    assert name in [one["Name"] for one in found]


def test_podman_pushes_an_index(clients: Clients, registry: Registry, layout: str) -> None:
    name = f"docker://{registry.host}/podman/multi:1"
    clients.podman("manifest", "create", "both")
    for tag in ("one", "two"):
        clients.podman("manifest", "add", "both", f"{layout}:{tag}")
    clients.podman("manifest", "push", "--all", *INSECURE, "both", name)
    children = json.loads(clients.skopeo("inspect", "--raw", *INSECURE, name))["manifests"]
    assert len({child["digest"] for child in children}) == 2
    for child in children:
        clients.skopeo("inspect", "--config", *INSECURE, f"{name.removesuffix(':1')}@{child['digest']}")


def test_skopeo_copies_single_images(
    clients: Clients, registry: Registry, layout: str, tmp_path: Path
) -> None:
    source = f"docker://{registry.host}/skopeo/app:1"
    clients.skopeo("copy", "--quiet", *SAME, *TO, f"{layout}:two", source)
    assert json.loads(clients.skopeo("inspect", *INSECURE, source))["Digest"] == TWO.digest
    target = f"docker://{registry.host}/skopeo/copy:2"
    clients.skopeo("copy", "--quiet", *SAME, *FROM, *TO, source, target)
    assert json.loads(clients.skopeo("inspect", *INSECURE, target))["Digest"] == TWO.digest
    clients.skopeo("copy", "--quiet", *SAME, *FROM, target, f"oci:{tmp_path / 'back'}:x")
    for digest, content in TWO.blobs().items():
        path = tmp_path / "back" / "blobs" / digest.replace(":", "/")
        assert path.read_bytes() == content, "every byte comes back"
    for form in ("v2s2", "oci"):
        changed = f"docker://{registry.host}/skopeo/{form}:1"
        clients.skopeo("copy", "--quiet", *FROM, *TO, "--format", form, source, changed)
        clients.skopeo("inspect", *INSECURE, changed)
    compressed = f"docker://{registry.host}/skopeo/zstd:1"
    clients.skopeo("copy", "--quiet", *FROM, *TO, "--dest-compress-format=zstd", source, compressed)
    clients.skopeo("inspect", "--config", *INSECURE, compressed)


def test_skopeo_copies_an_index(clients: Clients, registry: Registry, layout: str, tmp_path: Path) -> None:
    source = f"docker://{registry.host}/skopeo/multi:1"
    clients.skopeo("copy", "--quiet", "--all", *SAME, *TO, f"{layout}:index", source)
    assert clients.skopeo("inspect", "--raw", *INSECURE, source).encode() == INDEX.manifest
    target = f"docker://{registry.host}/other/multi:1"
    clients.skopeo("copy", "--quiet", "--all", *SAME, *FROM, *TO, source, target)
    clients.skopeo("copy", "--quiet", "--all", *SAME, *FROM, target, f"oci:{tmp_path / 'back'}:x")
    for digest, content in INDEX.blobs().items():
        assert (tmp_path / "back" / "blobs" / digest.replace(":", "/")).read_bytes() == content
    said = clients.skopeo("--override-arch", "arm64", "inspect", *INSECURE, target)
    assert json.loads(said)["Architecture"] == "arm64"


def test_skopeo_lists_and_deletes(clients: Clients, registry: Registry, layout: str) -> None:
    name = f"docker://{registry.host}/skopeo/tags"
    for tag, source in (("b", "one"), ("a", "one"), ("c", "two")):
        clients.skopeo("copy", "--quiet", *TO, f"{layout}:{source}", f"{name}:{tag}")
    assert json.loads(clients.skopeo("list-tags", *INSECURE, name))["Tags"] == ["a", "b", "c"]
    clients.skopeo("delete", *INSECURE, f"{name}:a")
    # skopeo deletes by digest: every tag of that manifest goes.
    assert json.loads(clients.skopeo("list-tags", *INSECURE, name))["Tags"] == ["c"]
    with pytest.raises(ClientError, match="manifest unknown"):
        clients.skopeo("inspect", *INSECURE, f"{name}:a")


def test_skopeo_mirrors_a_repository(
    clients: Clients, registry: Registry, layout: str, tmp_path: Path
) -> None:
    for tag in ("one", "two"):
        clients.skopeo("copy", "--quiet", *TO, f"{layout}:{tag}", f"docker://{registry.host}/sync/app:{tag}")
    folder = tmp_path / "mirror"
    clients.skopeo(
        "sync",
        *FROM,
        "--scoped=false",
        "--src",
        "docker",
        "--dest",
        "dir",
        f"{registry.host}/sync/app",
        str(folder),
    )
    assert sorted(path.name for path in folder.iterdir()) == ["app:one", "app:two"]


def test_buildah_builds_pushes_and_pulls(
    clients: Clients, registry: Registry, layout: str, tmp_path: Path
) -> None:
    name = f"{registry.host}/buildah/app"
    base = f"{registry.host}/buildah/base:1"
    clients.skopeo("copy", "--quiet", *TO, f"{layout}:one", f"docker://{base}")
    context = tmp_path / "context"
    context.mkdir()
    (context / "hello").write_text("hello")
    (context / "Containerfile").write_text(f'FROM {base}\nCOPY hello /hello\nCMD ["/bin/cat", "/hello"]\n')
    clients.buildah("build", *INSECURE, "--quiet", "--tag", "built", str(context))
    clients.buildah("push", "--quiet", *INSECURE, "built", f"docker://{name}:1")
    layers = json.loads(clients.skopeo("inspect", *INSECURE, f"docker://{name}:1"))["Layers"]
    assert len(layers) == 2
    clients.buildah("rmi", "--all", "--force")
    clients.buildah("pull", "--quiet", *INSECURE, f"{name}:1")
    clients.buildah("manifest", "create", "list")
    clients.buildah("manifest", "add", *INSECURE, "list", f"docker://{name}:1")
    clients.buildah("manifest", "push", "--all", *INSECURE, "list", f"docker://{name}:list")
    (child,) = json.loads(clients.skopeo("inspect", "--raw", *INSECURE, f"docker://{name}:list"))["manifests"]
    assert child["digest"] == json.loads(clients.skopeo("inspect", *INSECURE, f"docker://{name}:1"))["Digest"]


def test_builds_share_their_cache(clients: Clients, registry: Registry, layout: str, tmp_path: Path) -> None:
    """What one machine has built another one takes from the registry."""
    base, cache = f"{registry.host}/cache/base:1", f"{registry.host}/cache/layers"
    clients.skopeo("copy", "--quiet", *TO, f"{layout}:one", f"docker://{base}")
    (tmp_path / "hello").write_text("hello")
    (tmp_path / "Containerfile").write_text(f"FROM {base}\nCOPY hello /hello\n")
    shared = ("--layers", "--cache-to", cache, "--cache-from", cache)
    clients.buildah("build", *INSECURE, *shared, str(tmp_path))
    with client_home() as other:
        other.sign_in(registry.host, ADMIN, registry.token)
        said = other.buildah("build", *INSECURE, *shared, str(tmp_path))
    assert "Cache pulled from remote" in said


def test_everybody_pulls_what_is_public(
    clients: Clients, stranger: Clients, registry: Registry, layout: str, tmp_path: Path
) -> None:
    name = f"{registry.host}/public/app"
    clients.skopeo("copy", "--quiet", "--all", *SAME, *TO, f"{layout}:index", f"docker://{name}:1")
    with pytest.raises(ClientError, match="sign in to pull public/app"):
        stranger.podman("pull", "--quiet", *INSECURE, f"{name}:1")
    change = ("--visibility", "public", "--server", registry.url)
    seatrial(registry, "repo", "set", "public/app", *change)
    stranger.podman("pull", "--quiet", *INSECURE, f"{name}:1")
    stranger.buildah("pull", "--quiet", *INSECURE, f"{name}:1")
    stranger.skopeo(
        "copy", "--quiet", "--all", *SAME, *FROM, f"docker://{name}:1", f"oci:{tmp_path / 'got'}:x"
    )
    for digest, content in INDEX.blobs().items():
        assert (tmp_path / "got" / "blobs" / digest.replace(":", "/")).read_bytes() == content
    assert json.loads(stranger.skopeo("list-tags", *INSECURE, f"docker://{name}"))["Tags"] == ["1"]
    with pytest.raises(ClientError, match="sign in to push public/app"):
        stranger.skopeo("copy", "--quiet", *TO, f"{layout}:one", f"docker://{name}:2")


def test_a_folder_is_mirrored_into_the_registry(
    clients: Clients, registry: Registry, layout: str, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    for tag in ("one", "two"):
        clients.skopeo("copy", "--quiet", f"{layout}:{tag}", f"dir:{tmp_path / 'tree' / f'app:{tag}'}")
    clients.skopeo(
        *("sync", *TO, "--src", "dir", "--dest", "docker"), str(tmp_path / "tree"), f"{registry.host}/synced"
    )
    name = f"docker://{registry.host}/synced/app"
    assert json.loads(clients.skopeo("list-tags", *INSECURE, name))["Tags"] == ["one", "two"]


def test_a_layer_of_many_megabytes(clients: Clients, registry: Registry, tmp_path: Path) -> None:
    image = make_image(layer_of(os.urandom(48 << 20), compression="none"), config={"Cmd": ["/x"]})
    source = f"oci:{write_layout(tmp_path / 'large', image, tag='1')}:1"
    name = f"docker://{registry.host}/large/app:1"
    clients.skopeo("copy", "--quiet", *SAME, *TO, source, name)
    clients.skopeo("copy", "--quiet", *SAME, *FROM, name, f"oci:{tmp_path / 'back'}:1")
    path = tmp_path / "back" / "blobs" / image.layers[0].digest.replace(":", "/")
    assert path.read_bytes() == image.layers[0].blob


def seatrial(registry: Registry, *arguments: str) -> None:
    """Run a command as the administrator."""
    environment = {"PATH": os.environ["PATH"], "SEATRIAL_TOKEN": registry.token}
    run_seatrial(*arguments, environment=environment).check_returncode()


async def test_what_they_print_of_a_quota(clients: Clients, registry: Registry, layout: str) -> None:
    """The sentence with its numbers; pulls go on, and what fits is pushed."""
    name = f"docker://{registry.host}/small/app"
    await asyncio.to_thread(clients.skopeo, "copy", *TO, f"{layout}:one", f"{name}:1")
    image = await asyncio.to_thread(clients.podman, "pull", "--quiet", f"{layout}:two")

    def push(tag: str, place: str = "small/app") -> tuple[str, ...]:
        said = []
        for program, words in (
            (clients.skopeo, ("copy", *TO, f"{layout}:two", f"docker://{registry.host}/{place}:{tag}")),
            (clients.podman, ("push", *INSECURE, image, f"{registry.host}/{place}:{tag}")),
        ):
            with pytest.raises(ClientError) as caught:
                program(*words)
            said.append(str(caught.value))
        return tuple(said)

    async with registry.client() as admin:
        for most, place, sentence in (
            (
                {"tags": 1},
                "small/app",
                "the namespace small holds 1 of the 1 tags that its quota allows, and",
            ),
            ({"tags": None, "bytes": 1}, "small/app", "of the 1 bytes that its quota allows, and this needs"),
            ({"bytes": None, "repositories": 1}, "small/new", "small holds 1 of the 1 repositories that its"),
        ):
            await api(admin, "PATCH", "/quota", json={"on": "small/", **most})
            for said in await asyncio.to_thread(push, "2", place):
                assert "denied" in said.lower()
                assert sentence in said
            await asyncio.to_thread(clients.skopeo, "inspect", *INSECURE, f"{name}:1")
        await api(admin, "DELETE", "/quota", status=204, params={"on": "small/"})
    await asyncio.to_thread(clients.skopeo, "copy", *TO, f"{layout}:two", f"{name}:2")
