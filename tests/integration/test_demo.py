"""The demo's clients: podman, and skopeo where podman cannot work; neither leaves anything behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.clients import ClientError, Image, Login, Podman, Skopeo, tidy
from tests.kit.images import BUSYBOX
from tests.kit.server import ADMIN, Registry, RegistryProcess


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    process = RegistryProcess(tmp_path_factory.mktemp("demo") / "registry")
    yield process.start()
    process.stop()


@pytest.fixture
def folder() -> Iterator[Path]:
    """As the demo makes it: a socket's path is short, so is this."""
    made = Path(tempfile.mkdtemp(prefix="seatrial-demo-"))
    yield made
    tidy(made)
    assert not made.exists()


@pytest.mark.parametrize("kind", [Podman, Skopeo])
def test_build_push_and_pull(
    kind: type[Podman | Skopeo], registry: Registry, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = kind(folder, registry.host)
    image = Image("good", "exit 0", BUSYBOX)
    admin = Login(ADMIN, registry.token)
    client.build(image)
    client.push(image, "demo/good:1", admin)
    client.pull("demo/good:1", admin)
    assert f"{registry.host}/demo/good:1" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [Podman, Skopeo])
def test_a_refusal_is_told_in_the_registrys_words(
    kind: type[Podman | Skopeo], registry: Registry, folder: Path
) -> None:
    with pytest.raises(ClientError, match=r"(?i)manifest unknown|no such manifest"):
        kind(folder, registry.host).pull("demo/nothing:1", Login(ADMIN, registry.token))
    with pytest.raises(ClientError, match=r"(?i)unauthorized|invalid username"):
        kind(folder, registry.host).pull("demo/nothing:1", Login("stranger", "wrong"))


def test_tidy_removes_what_may_not_be_written(folder: Path) -> None:
    (folder / "kept" / "inside").mkdir(parents=True)
    (folder / "kept" / "inside" / "file").touch()
    (folder / "kept" / "inside").chmod(0o555)
    (folder / "kept").chmod(0o555)
    tidy(folder)
    assert not folder.exists()
