"""The demo's clients: podman, and skopeo where podman cannot work; neither leaves anything behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.clients import ClientError, Image, Login, Podman, Skopeo, tidy
from tests.kit.images import BUSYBOX
from tests.kit.server import ADMIN, Registry, RegistryProcess
from tests.kit.sources import ROOT


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


@pytest.mark.parametrize("ending", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_it_stops_what_it_started_however_it_is_ended(ending: signal.Signals, folder: Path) -> None:
    """A closed terminal (SIGHUP) too, since the server has a session of its own and would not hear of it."""
    folder.chmod(0o711)  # as /tmp, which the users of images may pass through
    demo = subprocess.Popen(
        # Whoever started the tests may have chosen to ignore SIGHUP, which is inherited.
        ["env", "--default-signal=HUP", sys.executable, "-u", "-m", "scripts.demo"],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert demo.stdout is not None
    lines = []
    try:
        for line in demo.stdout:
            lines.append(line)
            if line.startswith("== Building"):
                demo.send_signal(ending)
                break
        rest = demo.communicate(timeout=200)[0]
    finally:
        if demo.poll() is None:
            demo.terminate()
            demo.communicate()
    assert demo.returncode == 130, "".join(lines) + rest
    assert list(folder.iterdir()) == []
    address = next(line.split()[-1] for line in lines if line.startswith("== Starting"))
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(address.split(":")[1])), timeout=5)
