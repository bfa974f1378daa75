"""Every malformed request of the corpus: the right status, no fault of ours, nothing stored, and the
connection either answers the next request or is closed in order."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import http_parser, web_protocol
from sqlalchemy import func, select

from registry.db.content import blob_links, blobs, manifests, repositories, tags, upload_sessions
from tests.kit import malformed, malformed_http
from tests.kit.access import ask, basic, make_user
from tests.kit.distribution import push_blob, put_manifest, start_upload
from tests.kit.images import digest_of
from tests.kit.malformed import BLOB, DIGEST, STANDING, Case
from tests.kit.rawhttp import RawResponse, connected, read_response, request
from tests.kit.server import Registry, running_registry

Group = Callable[[], Iterator[Case]]
GROUPS = (
    malformed.paging,
    malformed.tags,
    malformed.digests,
    malformed.content_ranges,
    malformed.sessions,
    malformed.manifests,
    malformed.ranges,
    malformed_http.lengths,
    malformed_http.chunks,
    malformed_http.lines,
    malformed_http.methods,
)
SECONDS = 60
TABLES = (repositories, blobs, blob_links, manifests, tags, upload_sessions)


@dataclass(frozen=True, slots=True)
class Target:
    """A registry with something in it, and what ``{…}`` in the cases stands for."""

    registry: Registry
    words: dict[str, str]

    async def send(self, raw: bytes) -> RawResponse | None:
        """Send a case and read its answer; ``None`` if the connection ended without one."""
        for word, value in self.words.items():
            raw = raw.replace(b"{%s}" % word.encode(), value.encode())
        async with asyncio.timeout(SECONDS), connected(self.registry.host) as (reader, writer):
            writer.write(raw)
            try:
                answer = await read_response(reader, bodiless=raw.startswith(b"HEAD"))
            except asyncio.IncompleteReadError as error:
                return None if error.partial == b"" else RawResponse(0, {}, error.partial)
            http = answer.version == "HTTP/1.1"
            if http and answer.headers.get("connection", "") != "close":
                writer.write(request("GET", "/healthz"))
                assert (await read_response(reader)).body == b'{"status":"ok"}', "the connection is sane"
            return answer

    async def stored(self) -> list[int]:
        """How many rows there are."""
        assert self.registry.services is not None
        async with self.registry.services.database.read() as connection:
            return [
                (await connection.execute(select(func.count()).select_from(table))).scalar_one()
                for table in TABLES
            ]


@pytest.fixture(params=["C", "Python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp's parser: the one built in C, or the one that serves where that is not there."""
    assert http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
    if request.param == "Python":
        monkeypatch.setattr(web_protocol, "HttpRequestParser", http_parser.HttpRequestParserPy)


@pytest.fixture
async def target(tmp_path: Path, sqlite_template: Path, parser: None) -> AsyncIterator[Target]:
    """What is malformed never reaches a database, so SQLite is enough."""
    path = tmp_path / "seatrial.db"
    shutil.copyfile(sqlite_template, path)
    async with (
        running_registry(tmp_path / "data", f"sqlite:///{path}", stall_seconds=2) as registry,
        registry.client() as client,
        registry.client(anonymous=True) as nobody,
    ):
        await push_blob(client, "a", BLOB)
        await push_blob(client, "b", malformed.ELSEWHERE)
        raw = malformed.manifest()
        assert (await put_manifest(client, "a", "v1", raw)).status == 201
        session, spare, finished, cancelled = [await start_upload(client, "a") for _ in range(4)]
        assert (await ask(client, "PATCH", session, data=b"x" * STANDING)).status == 202
        done = await ask(client, "PUT", finished, params={"digest": DIGEST}, data=BLOB)
        assert (done.status, (await ask(client, "DELETE", cancelled)).status) == (201, 204)
        bob = basic("bob", await make_user(client, "bob", admin=True))
        of_bob = (await ask(nobody, "POST", "/v2/a/blobs/uploads/", headers=bob)).headers["Location"]
        named = {"id": session, "of_bob": of_bob, "finished": finished, "cancelled": cancelled}
        words = {name: location.rpartition("/")[2] for name, location in named.items()}
        yield Target(
            registry,
            words
            | {"token": registry.token, "session": session, "spare": spare}
            | {"manifest": digest_of(raw)},
        )


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
async def test_malformed(target: Target, group: Group, caplog: pytest.LogCaptureFixture) -> None:
    before = await target.stored()
    wrong = []
    for case in group():
        try:
            answer = await target.send(case.raw)
        except TimeoutError:
            wrong.append((case.name, "no answer in time"))
            continue
        if (problem := why_wrong(case, answer)) is not None:
            wrong.append((case.name, problem))
    assert not wrong, "\n".join(map(str, wrong))
    assert await target.stored() == before, "nothing is stored"
    async with target.registry.client() as client:
        standing = await ask(client, "GET", target.words["session"])
        assert standing.headers["Range"] == f"0-{STANDING - 1}", "the open upload stands where it stood"
    faults = [record for record in caplog.records if "request failed" in record.getMessage()]
    assert faults == []


def why_wrong(case: Case, answer: RawResponse | None) -> object:
    if answer is None:
        return None if malformed_http.ENDED in case.statuses else "no answer"
    if answer.status not in case.statuses:
        return answer.status, answer.body[:200]
    if case.codes and answer.body:
        code = json.loads(answer.body)["errors"][0]["code"]
        return None if code in case.codes else code
    return None


def test_the_corpus_is_large() -> None:
    assert sum(1 for group in GROUPS for _ in group()) >= 600
