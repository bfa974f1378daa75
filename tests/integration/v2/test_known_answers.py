"""What one replica changes, the other answers at the next request, however well it knew the old answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import update

from registry.db.content import manifests
from registry.db.types import db_time
from registry.http.answers import Answer, Answers
from tests.kit.access import api, ask, basic, bearer, make_token, make_user, registry_token
from tests.kit.distribution import push_blob, put_manifest, small_manifest
from tests.kit.images import OCI_MANIFEST, Image
from tests.kit.server import running_registry
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image

TAG = f"/v2/{REPOSITORY}/manifests/1"
REPOSITORY_API = f"/repositories/{REPOSITORY.replace('/', '%2F')}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replicas on one database; what is asked is asked of the second, what is changed at the first."""

    port: Port
    image: Image
    other: aiohttp.ClientSession = field(repr=False)
    """A client of the second replica without credentials."""

    @property
    def by_digest(self) -> str:
        """Path of the image's manifest."""
        return f"/v2/{REPOSITORY}/manifests/{self.image.digest}"

    @property
    def blob(self) -> str:
        """Path of the image's layer."""
        layer = json.loads(self.image.manifest)["layers"][0]["digest"]
        return f"/v2/{REPOSITORY}/blobs/{layer}"

    async def change(self, method: str, path: str, *, status: int = 200, **options: Any) -> Any:
        """Call the first replica's admin API."""
        return await api(self.port.admin, method, path, status=status, **options)


@pytest.fixture
async def pair(tmp_path: Path, database_url: str) -> AsyncIterator[Pair]:
    """One image under the tag 1, admitted, in a private repository whose gate enforces."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(open_port(tmp_path / "data", database_url))
        assert port.registry.services is not None
        settings = port.registry.services.settings
        other = await stack.enter_async_context(
            running_registry(
                tmp_path / "other",
                database_url,
                gate="enforce",
                gate_wait_seconds=0,
                storage_url=settings.effective_storage_url,
                secret_key_file=settings.data / "secret.key",
                admin_token_file=settings.data / "admin.token",
            )
        )
        client = await stack.enter_async_context(other.client(anonymous=True))
        image = tiny_image()
        await port.push(image)
        worker = await port.worker("one")
        await worker.report(await worker.claim())
        yield Pair(port, image, client)


async def statuses(pair: Pair, paths: tuple[str, ...], headers: dict[str, str]) -> list[tuple[int, int]]:
    found = []
    for path in paths:
        get = await ask(pair.other, "GET", path, headers=headers)
        head = await ask(pair.other, "HEAD", path, headers=headers)
        assert head.body == b""
        found.append((get.status, head.status))
    return found


Change = Callable[[Pair], Awaitable[object]]


async def _delete(pair: Pair, path: str) -> None:
    answer = await ask(pair.port.admin, "DELETE", path)
    assert answer.status == 202, answer.body


async def _fail_another_trial(pair: Pair) -> None:
    await pair.change("POST", "/trials", status=201, json={"image": f"{REPOSITORY}:1"})
    worker = await pair.port.worker("one")
    assert (await worker.report(await worker.claim(), met=False, exit_code=1)).status == 204


async def _block(pair: Pair) -> None:
    body = {"image": f"{REPOSITORY}@{pair.image.digest}", "reason": "it leaks"}
    await pair.change("POST", "/gate/block", status=204, json=body)


CHANGES: dict[str, tuple[Change, tuple[str, ...], int]] = {
    "the tag is deleted": (lambda pair: _delete(pair, TAG), ("tag",), 404),
    "the manifest is deleted": (lambda pair: _delete(pair, pair.by_digest), ("tag", "digest"), 404),
    "the blob is deleted": (lambda pair: _delete(pair, pair.blob), ("blob",), 404),
    "the repository is deleted": (
        lambda pair: pair.change("DELETE", REPOSITORY_API, status=204),
        ("tag", "digest", "blob"),
        401,  # the token names it, and is from before: it opens nothing there any more
    ),
    "the image is blocked": (_block, ("tag", "digest", "blob"), 403),
    "a trial fails": (_fail_another_trial, ("tag", "digest", "blob"), 403),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_content_and_gate(pair: Pair, name: str) -> None:
    change, kinds, status = CHANGES[name]
    made = await make_token(pair.port.admin, f"repository:{REPOSITORY}:pull")
    token = await registry_token(
        pair.other, f"repository:{REPOSITORY}:pull", headers=basic("admin", made["token"])
    )
    paths = tuple({"tag": TAG, "digest": pair.by_digest, "blob": pair.blob}[kind] for kind in kinds)
    for _ in range(2):
        assert set(await statuses(pair, paths, bearer(token))) == {(200, 200)}
    await change(pair)
    assert set(await statuses(pair, paths, bearer(token))) == {(status, status)}


async def test_a_tag_that_moves(pair: Pair) -> None:
    admin = bearer(pair.port.registry.token)
    for _ in range(2):
        assert (await ask(pair.other, "GET", TAG, headers=admin)).body == pair.image.manifest
    await push_blob(pair.port.admin, REPOSITORY, b"another")
    raw = small_manifest([b"another"], config=pair.image.config)
    assert (await put_manifest(pair.port.admin, REPOSITORY, "1", raw, OCI_MANIFEST)).status == 201
    for _ in range(2):
        assert (await ask(pair.other, "GET", TAG, headers=admin)).body == raw
    await pair.change("POST", f"{REPOSITORY_API}/tags/1/rollback", json={})
    assert (await ask(pair.other, "GET", TAG, headers=admin)).body == pair.image.manifest


async def test_a_repository_that_is_closed(pair: Pair) -> None:
    await pair.change("PATCH", REPOSITORY_API, json={"visibility": "public"})
    paths = (TAG, pair.by_digest, pair.blob)
    for _ in range(2):
        assert set(await statuses(pair, paths, {})) == {(200, 200)}
    await pair.change("PATCH", REPOSITORY_API, json={"visibility": "private"})
    assert set(await statuses(pair, paths, {})) == {(401, 401)}


async def test_a_gate_that_is_closed(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate="warn", grandfather_days=0) as port:
        digest = await port.push(tiny_image())
        for _ in range(2):
            answer = await port.pull(digest)
            assert answer.status == 200
            assert "still being tried" in answer.headers["Warning"]
        await api(port.admin, "PATCH", REPOSITORY_API, json={"gate": "enforce"})
        assert (await port.pull(digest)).status == 403
        await api(port.admin, "PATCH", REPOSITORY_API, json={"gate": "off"})
        for _ in range(2):
            assert "Warning" not in (await port.pull(digest)).headers


async def test_a_token_that_is_revoked(pair: Pair) -> None:
    made = await make_token(pair.port.admin, f"repository:{REPOSITORY}:pull")
    token = await registry_token(
        pair.other, f"repository:{REPOSITORY}:pull", headers=basic("admin", made["token"])
    )
    shown = (bearer(token), bearer(made["token"]), basic("admin", made["token"]))
    paths = (TAG, pair.blob)
    for headers in (*shown, *shown):
        assert set(await statuses(pair, paths, headers)) == {(200, 200)}
    await pair.change("DELETE", f"/tokens/{made['id']}", status=204)
    for headers in shown:
        assert set(await statuses(pair, paths, headers)) == {(401, 401)}


async def test_a_token_that_expires(pair: Pair) -> None:
    shown: tuple[dict[str, str], ...] = ()
    for life in (3, 10, 60):  # whichever a machine, however busy, gets something done in
        began = time.monotonic()
        made = await make_token(pair.port.admin, f"repository:{REPOSITORY}:pull", expires_seconds=life)
        made_at = time.monotonic()
        asked = {"service": "seatrial", "scope": f"repository:{REPOSITORY}:pull"}
        answer = await ask(pair.other, "GET", "/token", params=asked, headers=basic("admin", made["token"]))
        if answer.status != 200:
            assert time.monotonic() - began > life - 1, answer.body
            continue
        shown = (bearer(answer.json["token"]), bearer(made["token"]))
        seen = [await statuses(pair, (TAG, pair.blob), headers) for headers in (*shown, *shown)]
        if time.monotonic() - began < life - 1:
            assert all(set(each) == {(200, 200)} for each in seen)
            break
    assert shown
    await asyncio.sleep(max(0, made_at + life + 0.2 - time.monotonic()))
    for headers in shown:
        assert set(await statuses(pair, (TAG, pair.blob), headers)) == {(401, 401)}


async def test_an_image_whose_time_is_over(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate="off", trial_on_push=False) as port:
        image = tiny_image()
        digest = await port.push(image)
        blob = f"/v2/{REPOSITORY}/blobs/{json.loads(image.manifest)['layers'][0]['digest']}"
        await api(port.admin, "PATCH", REPOSITORY_API, json={"gate": "enforce"})
        began = time.monotonic()
        async with port.database.write() as connection:
            await connection.execute(
                update(manifests).values(grandfathered_until=db_time(timedelta(seconds=2)))
            )
        written_at = time.monotonic()
        for _ in range(2):
            answers = [await port.pull(digest), await ask(port.reader, "GET", blob)]
            if time.monotonic() - began < 1.5:
                assert [answer.status for answer in answers] == [200, 200]
        await asyncio.sleep(max(0, written_at + 2.2 - time.monotonic()))
        assert (await port.pull(digest)).status == 403
        assert (await ask(port.reader, "GET", blob)).status == 403


async def test_an_account_that_is_disabled(pair: Pair) -> None:
    await pair.change("PATCH", REPOSITORY_API, json={"visibility": "internal"})
    password = await make_user(pair.port.admin, "mia")
    token = await registry_token(pair.other, f"repository:{REPOSITORY}:pull", headers=basic("mia", password))
    shown = (basic("mia", password), bearer(token))
    for headers in (*shown, *shown):
        assert set(await statuses(pair, (TAG, pair.blob), headers)) == {(200, 200)}
    await pair.change("PATCH", "/users/mia", json={"disabled": True})
    for headers in shown:
        assert set(await statuses(pair, (TAG, pair.blob), headers)) == {(401, 401)}


async def test_what_is_known_is_answered_alike(pair: Pair) -> None:
    """All but the time and the id, whichever part of the server answers."""
    for path in (TAG, pair.by_digest, pair.blob):
        for method in ("GET", "HEAD"):
            looks, ids = [], set()
            for connection in ({}, {"Connection": "close"}):
                headers = bearer(pair.port.registry.token) | connection
                # One of these headers makes the request pass through the whole application.
                for more in ({}, {}, {"If-Match": "*"}):
                    async with pair.other.request(method, path, headers=headers | more) as answer:
                        body = await answer.read()
                    ids.add(answer.headers["X-Request-Id"])
                    kept = {
                        name.lower(): value
                        for name, value in answer.headers.items()
                        if name.lower() not in ("date", "x-request-id", "connection")
                    }
                    looks.append((answer.status, kept, body))
            for look in looks:
                assert look == looks[0], (path, method)
            assert len(ids) == len(looks)
    chosen = bearer(pair.port.registry.token) | {"X-Request-Id": "chosen"}
    assert (await ask(pair.other, "GET", TAG, headers=chosen)).headers["X-Request-Id"] == "chosen"
    twice = [("Authorization", f"Bearer {pair.port.registry.token}")] * 2
    assert (await ask(pair.other, "GET", TAG, headers=twice)).status == 400


def test_answers_are_bounded_and_end_with_their_time() -> None:
    from registry.db.epochlook import Epochs

    epochs = Epochs(1, 1, 1)

    def answer(size: int, until: float = float("inf")) -> Answer:
        return Answer("r", b"", bytes(size), "a", epochs, until)

    answers = Answers(max_bytes=100_000, max_entries=5)
    for number in range(8):
        answers.put((b"", str(number)), answer(10))
        assert answers.get((b"", "0"), epochs), "what is asked for stays"
    assert [number for number in range(8) if answers.knows((b"", str(number)))] == [0, 4, 5, 6, 7]
    answers.put((b"", "large"), answer(90_000))
    assert not answers.knows((b"", "large")), "one answer does not push out all others"
    for number in range(12):
        answers.put((b"", f"wide{number}"), answer(11_000))
    assert sum(answers.knows((b"", f"wide{number}")) for number in range(12)) <= 5
    answers.put((b"", "old"), answer(1, until=0))
    assert answers.get((b"", "old"), epochs) is None
    answers.put((b"", "k"), answer(1))
    assert answers.get((b"", "k"), Epochs(1, 1, 2)) is None
    assert answers.get((b"", "k"), epochs) is None
