"""``seatrial up``: two processes, one stopped or killed, both stopped, and root's rights dropped."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry.cli.dropping import Identity, choose_identity, give
from registry.main import run
from tests.kit.processes import children_of
from tests.kit.server import Registry

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 100


@dataclass(frozen=True, slots=True)
class House:
    """A running ``seatrial up``."""

    process: subprocess.Popen[bytes]
    data: Path
    log: Path

    def children(self) -> dict[str, int]:
        """Its processes by name: ``serve`` and ``worker``."""
        found = {}
        for pid in children_of(self.process.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"registry.main" in words:
                found[words[words.index(b"registry.main") + 1].decode()] = pid
        return found

    @property
    def registry(self) -> Registry:
        """The registry, once it has said where it listens."""
        url = until(lambda: self.log.read_text().partition("Seatrial listens on ")[2].split("\n")[0])
        scheme, _, host = url.partition("://")
        return Registry(
            host,
            until(lambda: (self.data / "admin.token").read_text().strip()),
            certificate=self.data / "tls" / "certificate.pem" if scheme == "https" else None,
        )

    def get(self, path: str) -> Any:
        """JSON from the admin API, or ``None`` while nobody answers."""
        registry = self.registry
        headers = {"Authorization": f"Bearer {registry.token}"}
        request = urllib.request.Request(f"{registry.url}/api/v1{path}", headers=headers)
        try:
            tls = registry.tls if isinstance(registry.tls, ssl.SSLContext) else None
            with urllib.request.urlopen(request, timeout=10, context=tls) as response:
                return json.load(response)
        except OSError:
            return None

    def seen_worker(self) -> Any:
        """The worker, once it has asked for a job."""
        found = self.get("/workers")
        return found and [worker for worker in found["items"] if worker["last_seen_at"]]


def until(found: Callable[[], Any]) -> Any:
    """What ``found`` finds, as soon as it is something."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            if value := found():
                return value
        except (OSError, ValueError):
            pass
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.05)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the users of images and the registry's own may pass through, as they do in /var/lib."""
    with tempfile.TemporaryDirectory(prefix="seatrial-up-", dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@contextmanager
def shown_at(place: Path, tree: Path) -> Iterator[Path]:
    """``tree`` at ``place``, where other users may pass."""
    place.mkdir()
    subprocess.run(["mount", "--bind", "-o", "ro", str(tree), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextmanager
def up(
    folder: Path, *arguments: str, python: tuple[str, ...] = (sys.executable,), **environment: str
) -> Iterator[House]:
    """Run ``seatrial up`` while the block runs."""
    log = folder / "up.log"
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(*python, "-m", "registry.main", "up"),
                *("--data", str(folder / "data"), "--listen", "127.0.0.1:0", *arguments),
            ],
            cwd=folder,
            env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )  # fmt: skip
    try:
        yield House(process, folder / "data", log)
    except AssertionError:
        sys.stdout.write(log.read_text())  # pytest shows it with the failure
        raise
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def gone(*pids: int) -> bool:
    """Whether these processes have ended."""
    return not any(
        Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids
    )


@pytest.mark.timeout(400)
def test_both_run_survive_a_crash_and_stop_together(open_folder: Path) -> None:
    with up(open_folder, "--gate", "enforce") as house:
        (worker,) = until(house.seen_worker)
        assert worker["name"].endswith("up")
        token_file = open_folder / "data-worker" / "worker.token"
        token = token_file.read_text()
        assert token_file.stat().st_mode & 0o777 == 0o600
        before = house.children()
        assert set(before) == {"serve", "worker"}
        assert (house.data / "secret.key").stat().st_mode & 0o777 == 0o600
        assert (house.data / "seatrial.db").stat().st_mode & 0o077 == 0

        for name in ("serve", "worker"):
            os.kill(before[name], signal.SIGKILL)

        def replaced() -> Any:
            found = house.children()
            dying = set(before.values()) & set(found.values())
            return set(found) == {"serve", "worker"} and not dying and found

        after = until(replaced)
        first_seen = worker["last_seen_at"]
        until(lambda: (seen := house.seen_worker()) and seen[0]["last_seen_at"] > first_seen)
        assert token_file.read_text() == token
        assert len(house.get("/workers")["items"]) == 1
        assert house.get("/repositories")["items"] == []

        house.process.send_signal(signal.SIGINT)
        assert house.process.wait(SECONDS) == 0
        assert gone(*after.values())
        said = house.log.read_text()
        assert "The registry ended (SIGKILL); it is started again in 1 s." in said
        assert "The worker ended (SIGKILL); it is started again in 1 s." in said
        assert said.count("First start") == 1

    # A second life keeps the worker and its token; a fresh database gives a new one.
    for path in house.data.iterdir():
        if path.name.startswith("seatrial.db"):
            path.unlink()
    with up(open_folder) as house:
        until(house.seen_worker)
        assert token_file.read_text() != token


@pytest.mark.timeout(200)
def test_the_worker_trusts_the_registry_s_certificate(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(open_folder)
    with up(open_folder, "--tls", "self-signed") as house:
        until(house.seen_worker)
        assert "podman, skopeo, buildah" in house.log.read_text()
        assert run(["repo", "list", "--server", house.registry.url]) == 2
    said = capsys.readouterr().err
    assert "its certificate is not trusted here" in said
    assert "SEATRIAL_CA_FILE" in said


@pytest.mark.timeout(200)
def test_killed_itself_it_leaves_nobody_behind(open_folder: Path) -> None:
    cpu = str(min(os.sched_getaffinity(0)))
    permits = ("--allow-egress", "93.184.216.34:443", "--egress-bits-per-second", "1000000")
    permits += ("--allow-capability", "SETPCAP")
    with up(open_folder, *permits, "--cpu-set", cpu) as house:
        until(house.seen_worker)
        children = house.children()
        # The worker is the one that runs images: it was given what the operator permits.
        words = Path(f"/proc/{children['worker']}/cmdline").read_text().split("\0")
        assert {*permits, "--cpu-set", cpu} <= set(words)
        house.process.kill()
        house.process.wait()
        until(lambda: gone(*children.values()))


def test_a_registry_that_cannot_start_ends_it(tmp_path: Path) -> None:
    with up(tmp_path, SEATRIAL_STORAGE_URL="ftp://bucket") as house:
        assert house.process.wait(SECONDS) == 64
        assert "storage_url: must be file:///FOLDER" in house.log.read_text()
        assert "Traceback" not in house.log.read_text()


def test_where_nothing_can_be_isolated_it_serves_and_says_so(tmp_path: Path) -> None:
    with up(tmp_path, PATH="/nowhere") as house:
        until(lambda: house.get("/repositories"))
        assert set(house.children()) == {"serve"}
        assert house.get("/workers")["items"] == []
        said = house.log.read_text()
        assert "WARNING: no image can be run isolated here, so no worker is started:" in said
        assert "The registry serves; images stay pending until a worker elsewhere tries them." in said


ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop its rights")


@ROOT_ONLY
def test_the_registry_drops_to_who_owns_the_data(open_folder: Path) -> None:
    # A Python that other users may run; this one may lie in root's home, as may the clone.
    python = "/usr/bin/python3"
    libraries = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
    (open_folder / "data").mkdir(mode=0o700)
    (open_folder / "data" / "from-before").write_text("x")
    with (
        shown_at(open_folder / "code", ROOT) as code,
        shown_at(open_folder / "libraries", libraries) as libraries,
        up(open_folder, python=(python,), PYTHONPATH=f"{code}:{libraries}") as house,
    ):
        until(lambda: house.get("/repositories"))
        status = Path(f"/proc/{house.children()['serve']}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        uid = int(fields["Uid"].split()[0])
        assert uid != 0
        assert set(fields["Uid"].split()) == {str(uid)}
        assert fields["Groups"].strip() == ""
        assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
        assert fields["NoNewPrivs"].strip() == "1"
        assert {path.stat().st_uid for path in (house.data, *house.data.rglob("*"))} == {uid}
        assert (open_folder / "data-worker").stat().st_uid == 0


@ROOT_ONLY
def test_whose_the_data_is(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "worker").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    chosen = choose_identity(tmp_path)
    assert chosen.uid != 0
    give(tmp_path, Identity(12345, 23456), leave=tmp_path / "worker")
    assert choose_identity(tmp_path) == Identity(12345, 23456)
    owners = {path.name: path.lstat().st_uid for path in tmp_path.rglob("*")}
    assert owners == {"folder": 12345, "file": 12345, "worker": 0, "link": 12345}
    assert Path("/etc/passwd").stat().st_uid == 0

    # From then on only what a command of root's may have left beside the rest.
    for path in (tmp_path / "token", tmp_path / "folder" / "file"):
        path.touch()
        os.chown(path, 0, 0)
    give(tmp_path, Identity(12345, 23456), leave=tmp_path / "worker")
    assert (tmp_path / "token").stat().st_uid == 12345
    assert (tmp_path / "folder" / "file").stat().st_uid == 0
