"""``seatrial serve``: how it ends, and several processes behind one port."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.kit.access import Answer, ask
from tests.kit.distribution import push_image
from tests.kit.images import digest_of
from tests.kit.processes import children_of
from tests.kit.rawhttp import connected, read_response, request
from tests.kit.server import Registry
from tests.kit.trials import tiny_image

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A running ``seatrial serve``."""

    process: subprocess.Popen[bytes]
    data: Path
    log: Path

    @property
    def registry(self) -> Registry:
        """Where it listens, once it has said so."""
        host = until(lambda: self.log.read_text().partition("Seatrial listens on http://")[2].split("\n")[0])
        return Registry(host, until(lambda: (self.data / "admin.token").read_text().strip()))

    def children(self) -> list[int]:
        """Its processes."""
        return children_of(self.process.pid)

    def end(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(SECONDS)


@contextmanager
def serving(folder: Path, *options: str, **settings: str) -> Iterator[Server]:
    log = folder / "log"
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    environment |= {f"SEATRIAL_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "registry.main", "serve", "--data", str(folder / "data")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0", *options],
            env=environment | {"SEATRIAL_GATE": "off"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield Server(process, folder / "data", log)
    finally:
        process.kill()
        process.wait()


def until(found: Callable[[], object]) -> str:
    """What ``found`` finds, as soon as it is something."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            if value := found():
                return str(value)
        except OSError:
            pass
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.05)


@asynccontextmanager
async def slow_push(
    registry: Registry, content: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A push of which half has arrived."""
    async with connected(registry.host) as (reader, writer):
        writer.write(
            request(
                "POST",
                f"/v2/a/blobs/uploads/?digest={digest_of(content)}",
                token=registry.token,
                Content_Length=str(len(content)),
                Expect="100-continue",
            )
        )
        assert (await read_response(reader)).status == 100
        writer.write(content[: len(content) // 2])
        await writer.drain()
        yield reader, writer


async def test_told_to_end_it_finishes_what_runs_and_says_no_to_the_rest(tmp_path: Path) -> None:
    content = os.urandom(1 << 20)
    with serving(tmp_path) as server:
        registry = server.registry
        async with slow_push(registry, content) as (reader, writer):
            server.process.send_signal(signal.SIGTERM)
            async with registry.client() as client:
                answer = await not_ready(client)
                assert (answer.status, answer.json) == (503, {"status": "draining"})
                assert answer.headers["Connection"] == "close"
                assert (await ask(client, "GET", "/healthz")).status == 200
            writer.write(content[len(content) // 2 :])
            assert (await read_response(reader)).status == 201
        assert server.end() == 0
    with serving(tmp_path) as server:
        async with server.registry.client() as client:
            answer = await ask(client, "GET", f"/v2/a/blobs/{digest_of(content)}")
            assert answer.body == content


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_twice_it_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, shutdown_seconds="3600") as server:
        registry = server.registry
        async with slow_push(registry, os.urandom(1 << 20)):
            server.process.send_signal(number)
            async with registry.client() as client:
                await not_ready(client)
            server.process.send_signal(number)
            assert await asyncio.to_thread(server.end) == 0
    assert "Traceback" not in server.log.read_text()


async def test_what_takes_longer_than_allowed_is_broken_off(tmp_path: Path) -> None:
    with serving(tmp_path, shutdown_seconds="0.2") as server:
        async with slow_push(server.registry, os.urandom(1 << 20)):
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.end) == 0


async def test_several_processes_are_one_registry(tmp_path: Path) -> None:
    with serving(tmp_path, "--processes", "3") as server:
        registry = server.registry
        until(lambda: len(server.children()) == 3)
        text = server.log.read_text()
        assert text.count("Seatrial listens on") == 1
        assert text.count("First start") == 1
        image = tiny_image()
        async with registry.client() as client:
            await push_image(client, "team/app", "1", image)
        # Connections of their own: whoever of the three is free takes one.
        answers = await asyncio.gather(*(pull(registry) for _ in range(30)))
        assert set(answers) == {(200, image.manifest)}
        # Whoever is asked tells of all.
        lines = await metrics(registry, processes=3, pulls=30)
        pids = server.children()
        # One that was killed as it made a file of its counters has left it without a byte.
        environment = Path(f"/proc/{pids[0]}/environ").read_text().split("\0")
        counters = next(e for e in environment if e.startswith("PROMETHEUS_MULTIPROC_DIR=")).partition("=")[2]
        Path(counters, "counter_1.db").touch()
        assert all(any(f'bytes{{pid="{pid}"}}' in line for line in lines) for pid in pids)

        os.kill(pids[0], signal.SIGKILL)
        answers = await asyncio.gather(*(pull(registry, patient=True) for _ in range(10)))
        assert set(answers) == {(200, image.manifest)}
        until(lambda: len(server.children()) == 3)
        until(lambda: "ended (SIGKILL); it is started again in 1 s" in server.log.read_text())
        # What has ended is still counted.
        lines = await metrics(registry, processes=3, pulls=40)
        assert not [line for line in lines if f'pid="{pids[0]}"' in line]
        assert server.log.read_text().count("Seatrial listens on") == 1
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
    assert "Traceback" not in server.log.read_text()


async def test_each_of_several_finishes_what_runs(tmp_path: Path) -> None:
    content = os.urandom(1 << 20)
    with serving(tmp_path, "--processes", "2") as server:
        registry = server.registry
        async with slow_push(registry, content) as (reader, writer):
            server.process.send_signal(signal.SIGTERM)
            until(lambda: len(server.children()) == 1)
            writer.write(content[len(content) // 2 :])
            assert (await read_response(reader)).status == 201
        assert server.end() == 0


async def test_an_upload_moves_between_the_processes(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    with serving(tmp_path, "--processes", "3") as server:
        registry = server.registry
        async with registry.client() as client:
            location = (await ask(client, "POST", "/v2/a/blobs/uploads/")).headers["Location"]
        for i in range(3):
            part = content[i << 20 : (i + 1) << 20]
            headers = {"Content-Range": f"{i << 20}-{((i + 1) << 20) - 1}"}
            async with registry.client() as client:
                assert (await ask(client, "PATCH", location, data=part, headers=headers)).status == 202
        async with registry.client() as client:
            put = await ask(client, "PUT", location, params={"digest": digest_of(content)})
            assert put.status == 201
            assert (await ask(client, "GET", f"/v2/a/blobs/{digest_of(content)}")).body == content


async def test_counters_in_a_temporary_folder_harm_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def folders() -> list[Path]:
        return list(tmp_path.glob("seatrial-metrics-*"))

    with serving(tmp_path, "--processes", "2") as server:
        assert server.registry
        until(lambda: len(server.children()) == 2)
        orphans = server.children()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
    (left,) = folders()
    with serving(tmp_path, "--processes", "2") as server:
        assert server.registry
        (used,) = folders()
        assert used != left, "a killed server's is removed at the next start"
        descriptor = os.open(used, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # what makes systemd-tmpfiles pass it by
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        until(lambda: len(server.children()) == 2)
        shutil.rmtree(used)
        for pid in server.children():
            os.kill(pid, signal.SIGKILL)
        answers = await asyncio.gather(*(healthy(server.registry) for _ in range(10)))
        assert set(answers) == {200}
        assert used not in folders()
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
        assert "exit code" not in server.log.read_text()
    assert not folders()


async def test_where_no_process_can_be_started_it_is_tried_again(tmp_path: Path) -> None:
    with serving(tmp_path, "--processes", "2") as server:
        assert server.registry
        until(lambda: len(server.children()) == 2)
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (5, limits[1]))
        os.kill(server.children()[0], signal.SIGKILL)
        until(lambda: "registry process 1 cannot be started: Too many open files" in server.log.read_text())
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
        until(lambda: len(server.children()) == 2)
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0


async def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    with serving(tmp_path, "--processes", "2", storage_url="ftp://nowhere") as server:
        assert server.end() != 0
        assert server.log.read_text().count("storage_url: must be") == 1
    (tmp_path / "other").mkdir()
    with serving(tmp_path / "other", "--processes", "2", "--listen", "192.0.2.1:1") as server:
        assert server.end() != 0
        assert "listen: 192.0.2.1:1 cannot be used" in server.log.read_text()


async def pull(registry: Registry, *, patient: bool = False) -> tuple[int, bytes]:
    """The manifest, over a connection of its own."""
    while True:
        try:
            async with registry.client() as client:
                answer = await ask(client, "GET", "/v2/team/app/manifests/1")
                return answer.status, answer.body
        except aiohttp.ClientError:
            # One that was accepted by a process and not answered before that was killed.
            if not patient:
                raise


async def healthy(registry: Registry) -> int:
    """The status of /healthz, as soon as a process has one for who connects."""
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with registry.client() as client:
                return (await ask(client, "GET", "/healthz")).status


async def metrics(registry: Registry, *, processes: int, pulls: int) -> list[str]:
    """The lines of /metrics, once so many processes and pulls of manifests are in them."""
    counted = f'seatrial_http_requests_total{{method="GET",route="v2:manifests",status="2xx"}} {pulls}.0'
    async with asyncio.timeout(SECONDS):
        while True:
            async with registry.client() as client:
                answer = await ask(client, "GET", "/metrics")
            assert answer.status == 200
            lines = answer.body.decode().splitlines()
            known = sum(line.startswith("process_resident_memory_bytes{") for line in lines)
            if known == processes and counted in lines:
                return lines
            await asyncio.sleep(0.05)


async def not_ready(client: aiohttp.ClientSession) -> Answer:
    """The answer of /readyz, once it says no."""
    while True:
        answer = await ask(client, "GET", "/readyz")
        if answer.status != 200:
            return answer
        await asyncio.sleep(0.01)
