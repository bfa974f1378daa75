"""Two replicas with nothing in common but database and store: other users, networks, folders, clocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.kit.access import ask
from tests.kit.distribution import (
    EMPTY_CONFIG,
    finish_in_turn,
    push_blob,
    push_image,
    push_small,
    put_manifest,
    small_manifest,
    start_upload,
)
from tests.kit.images import digest_of, file, make_image, make_layer
from tests.kit.postgres import PostgresServer
from tests.kit.relay import relay
from tests.kit.s3 import S3Server
from tests.kit.server import Registry, RegistryProcess
from tests.kit.strangers import Stranger, stranger
from tests.kit.trials import ScriptedWorker, tiny_image, worker_token

NAME = "team/app"
MIB = 1 << 20
LEASE_SECONDS = 6
CLOCK_SECONDS = 30


class Replicas:
    """A database and a store, and the replicas on them."""

    def __init__(self, stack: ExitStack, database: str, s3: S3Server) -> None:
        self._stack = stack
        self._database = database
        self._s3 = s3
        self._prefix = os.urandom(8).hex()
        self.secret = b""
        self.token = ""

    def start(self, place: Stranger) -> tuple[RegistryProcess, Registry]:
        """Start a replica there. The first makes the secret key and the administrator's token."""
        service = urlsplit(self._s3.endpoint_url).netloc
        endpoint = self._stack.enter_context(relay(service, host=place.outside)).host
        credentials = place.give("credentials", self._s3.credentials.read_bytes())
        if self.secret:
            place.give("secret.key", self.secret)
            place.give("admin.token", self.token.encode())
        process = RegistryProcess(
            place.data,
            self._database,
            through=place.through,
            host=place.host,
            storage_url=self._s3.url(self._prefix, endpoint_url=f"http://{endpoint}"),
            storage_credentials_file=str(credentials),
            trial_on_push="true",
            lease_seconds=str(LEASE_SECONDS),
        )
        self._stack.callback(process.stop)
        registry = process.start()
        self.secret = (place.data / "secret.key").read_bytes()
        self.token = registry.token
        return process, registry


@pytest.fixture(scope="module")
def world(postgres: PostgresServer, postgres_template: str, s3: S3Server) -> Iterator[Replicas]:
    name = postgres.create(postgres_template)
    with ExitStack() as stack:
        stack.callback(postgres.drop, name)
        yield Replicas(stack, postgres.url(name), s3)


@pytest.fixture(scope="module")
def both(world: Replicas) -> Iterator[list[tuple[RegistryProcess, Registry]]]:
    with stranger() as one, stranger(clock_seconds=CLOCK_SECONDS) as two:
        running = [world.start(one), world.start(two)]
        yield running
        for process, _ in running:
            process.stop()


@pytest.fixture
def one(both: list[tuple[RegistryProcess, Registry]]) -> Registry:
    return both[0][1]


@pytest.fixture
def two(both: list[tuple[RegistryProcess, Registry]]) -> Registry:
    """Its clock is 30 s ahead."""
    return both[1][1]


async def test_they_share_nothing_of_the_host(both: list[tuple[RegistryProcess, Registry]]) -> None:
    clocks, slack = [], []
    for _, registry in both:
        began = datetime.now(UTC)
        async with aiohttp.ClientSession() as session, session.get(f"{registry.url}/healthz") as response:
            there = parsedate_to_datetime(response.headers["Date"])
        took = (datetime.now(UTC) - began).total_seconds()
        clocks.append((there - began).total_seconds() - took / 2)
        slack.append(2 + took / 2)  # a date has whole seconds
    assert abs(clocks[0]) < slack[0]
    assert abs(clocks[1] - CLOCK_SECONDS) < slack[1]
    if os.geteuid() == 0:
        for what in ("ns/net", "ns/mnt"):
            assert len({Path(f"/proc/{process.pid}/{what}").readlink() for process, _ in both}) == 2
        owners = {Path(f"/proc/{process.pid}").stat().st_uid for process, _ in both}
        assert len(owners | {0}) == 3


async def test_what_one_takes_the_other_gives(one: Registry, two: Registry) -> None:
    async with one.client() as first, two.client() as second:
        for pushes, pulls in ((first, second), (second, first)):
            image = make_image(make_layer(file("app", os.urandom(50_000))))
            digest = await push_image(pushes, NAME, "1", image)
            for blob, content in image.blobs().items():
                kind = "manifests" if blob == digest else "blobs"
                async with pulls.get(f"/v2/{NAME}/{kind}/{blob}") as response:
                    assert (response.status, await response.read()) == (200, content)


async def test_an_upload_moves_at_any_request(one: Registry, two: Registry) -> None:
    content = os.urandom(3 * MIB)
    # Which replica takes each request: begin, three chunks, the question where it stands, the end.
    walks = ("211212", "122121", "212122")
    async with one.client() as first, two.client() as second:
        clients = {"1": first, "2": second}
        for walk in walks:
            start, *chunks, ask, end = (clients[number] for number in walk)
            location = await start_upload(start, NAME)
            for number, client in enumerate(chunks):
                headers = {"Content-Range": f"{number * MIB}-{(number + 1) * MIB - 1}"}
                block = content[number * MIB : (number + 1) * MIB]
                async with client.patch(location, data=block, headers=headers) as response:
                    assert response.status == 202, await response.text()
            async with ask.get(location) as response:
                assert (response.status, response.headers["Range"]) == (204, f"0-{3 * MIB - 1}")
            async with end.put(location, params={"digest": digest_of(content)}) as response:
                assert response.status == 201, await response.text()
            async with start.get(f"/v2/{NAME}/blobs/{digest_of(content)}") as response:
                assert await response.read() == content


async def test_an_upload_that_is_finished_at_both_is_finished_once(one: Registry, two: Registry) -> None:
    content = os.urandom(MIB)
    async with one.client() as first, two.client() as second:
        location = await start_upload(first, NAME)
        async with second.patch(location, data=content) as response:
            assert response.status == 202
        counts = await finish_in_turn((first, second), location, digest_of(content), times=6)
    assert counts[201] == 1, counts
    assert set(counts) <= {201, 404, 409}, counts


async def test_a_token_of_one_is_good_at_the_other(one: Registry, two: Registry) -> None:
    asked = {"service": "seatrial", "scope": f"repository:{NAME}:pull,push"}
    async with one.client() as first:
        await push_small(first, NAME, "signed")
    for minted, used in ((one, two), (two, one)):
        async with minted.client() as client, client.get("/token", params=asked) as response:
            token = (await response.json())["token"]
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(used.url, headers=headers) as client:
            async with client.get(f"/v2/{NAME}/manifests/signed") as response:
                assert response.status == 200, await response.text()
            await push_blob(client, NAME, os.urandom(10))
    # Revoked at one, it is nothing at the other from its next request on.
    async with one.client() as first:
        body = {"name": "short", "scopes": [f"repository:{NAME}:pull"]}
        made = (await ask(first, "POST", "/api/v1/tokens", json=body)).json
    async with two.client(made["token"]) as client, client.get(f"/v2/{NAME}/tags/list") as response:
        assert response.status == 200
    async with one.client() as first, first.delete(f"/api/v1/tokens/{made['id']}") as response:
        assert response.status == 204
    async with two.client(made["token"]) as client, client.get(f"/v2/{NAME}/tags/list") as response:
        assert response.status == 401


async def test_what_one_moves_or_deletes_the_other_never_shows_again(one: Registry, two: Registry) -> None:
    async with one.client() as first, two.client() as second:
        for changes, looks in ((first, second), (second, first)):
            await push_blob(changes, NAME, EMPTY_CONFIG)
            path = f"/v2/{NAME}/manifests/moving"
            for _ in range(5):
                raw = small_manifest(annotations={"n": os.urandom(4).hex()})
                assert (await put_manifest(changes, NAME, "moving", raw)).status == 201
                for _ in range(2):  # and what it keeps in memory is not older
                    async with looks.get(path) as response:
                        assert await response.read() == raw
            by_digest = f"/v2/{NAME}/manifests/{digest_of(raw)}"
            async with changes.delete(by_digest) as response:
                assert response.status == 202
            for gone in (path, by_digest):
                async with looks.get(gone) as response:
                    assert response.status == 404
            async with changes.delete(f"/v2/{NAME}/blobs/{digest_of(EMPTY_CONFIG)}") as response:
                assert response.status == 202
            async with looks.get(f"/v2/{NAME}/blobs/{digest_of(EMPTY_CONFIG)}") as response:
                assert response.status == 404


async def test_leases_go_by_the_clock_of_the_database(one: Registry, two: Registry) -> None:
    """A clock that is wrong by many leases neither ends one early nor keeps a lost worker's for ever."""
    async with one.client() as first, two.client() as second:
        secret = await worker_token(first, "w")
        headers = {"Authorization": f"Bearer {secret}"}
        async with (
            aiohttp.ClientSession(one.url, headers=headers) as at_one,
            aiohttp.ClientSession(two.url, headers=headers) as at_two,
        ):
            right, ahead = ScriptedWorker(at_one, "w"), ScriptedWorker(at_two, "w")
            while (job := await right.claim()) is not None:  # what other tests have pushed
                assert (await right.report(job)).status == 204
            for claims, other, pushes in ((right, ahead, second), (ahead, right, first)):
                await push_image(pushes, "leases", "1", tiny_image())
                job = await claims.claim(wait_seconds=30)
                assert job is not None
                assert await other.claim() is None, "the lease still holds"
                assert (await other.renew(job)).status == 200
                # Nobody renews it: it is handed out again, by either.
                again = await other.claim(wait_seconds=4 * LEASE_SECONDS)
                assert again is not None
                assert again["part"] == job["part"]
                assert (await claims.renew(job)).status != 200
                assert (await claims.report(again)).status == 204


def test_another_secret_key_is_refused_with_the_reason(world: Replicas, one: Registry) -> None:
    assert one.token
    other = Replicas(world._stack, world._database, world._s3)
    with stranger() as place, pytest.raises(AssertionError) as refused:
        other.start(place)
    assert "was not wrapped with this secret key" in str(refused.value)
    assert "SEATRIAL_SECRET_KEY_FILE" in str(refused.value)
    assert "Traceback" not in str(refused.value)
