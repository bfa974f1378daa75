"""Every way to the bytes of an image, under every gate, in every state: each as the gate's table says.

The table is that of tests/unit/trials/test_gate.py, so that what is decided and what is served cannot differ.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
from sqlalchemy import Insert, insert, literal, select, update

from registry.db.content import manifests
from registry.db.engine import move_epoch
from registry.db.findings import image_findings
from registry.db.types import db_time
from registry.trials.imagefindings import NOTHING
from tests.kit.access import Answer, ask, make_repository, make_token
from tests.kit.distribution import push_blob, put_manifest
from tests.kit.images import OCI_INDEX, OCI_MANIFEST, Image, descriptor, digest_of, make_index, to_json
from tests.kit.trials import Port, open_port, tiny_image
from tests.unit.trials.test_gate import EARLIER, GATES, HEADER, NO, TABLE, WAIT, YES

EMPTY = b"{}"
ROWS: Mapping[str, Mapping[str, object]] = {
    "grandfathered": {"grandfathered_until": db_time(timedelta(days=1))},
    "expired": {"state": "pass", "state_at": db_time(timedelta(days=-31))},
    "blocked": {"state": "pass", "blocked_reason": "a test"},
}
"""Columns of the states that are not one word on a row."""
FOUND = "-by-findings"
BY_FINDINGS = tuple(
    (gate, f"{state}{FOUND}") for gate in ("enforce", "hold") for state in ("fail", "error", "warn")
)
"""States that a findings policy gave, beside which its reasons stand."""
FINDING = {"id": "CVE-1", "rule": "high", "package": "a", "version": "1", "fixed_version": "2"}


@dataclass(frozen=True, slots=True)
class Spot:
    """An image in one state under one gate: ``good`` stood under its tag before."""

    gate: str
    state: str
    image: Image
    index: Image
    good: Image
    signature: str

    @property
    def row(self) -> str:
        """Its state as the table has it."""
        return self.state.removesuffix(FOUND)

    @property
    def repository(self) -> str:
        """Where it is."""
        return f"walk/{self.gate}"

    @property
    def layer(self) -> str:
        """The blob that only this image has."""
        return str(json.loads(self.image.manifest)["layers"][0]["digest"])

    @property
    def config(self) -> str:
        """Its config, likewise."""
        return str(json.loads(self.image.manifest)["config"]["digest"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What somebody got: nothing (``served`` is empty), or the content of a digest."""

    status: int
    served: str = ""
    warned: bool = False
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Walker:
    """Somebody who tries."""

    client: aiohttp.ClientSession
    is_writer: bool


Way = Callable[[Walker, Spot], Awaitable[Outcome]]
Expected = Callable[[Walker, Spot], Outcome]


async def _asked(walker: Walker, method: str, spot: Spot, path: str, **headers: str) -> Outcome:
    first = await ask(walker.client, method, f"/v2/{spot.repository}{path}", headers=headers)
    again = await ask(walker.client, method, f"/v2/{spot.repository}{path}", headers=headers)
    # The second one may be a known answer.
    assert _outcome(first) == _outcome(again)
    if method == "HEAD":
        assert first.body == b""
    return _outcome(first)


def _outcome(answer: Answer) -> Outcome:
    served = answer.headers.get("Docker-Content-Digest", "") if answer.status in (200, 206) else ""
    return Outcome(answer.status, served, "Warning" in answer.headers, "Retry-After" in answer.headers)


def manifest(method: str, reference: Callable[[Spot], str]) -> Way:
    async def walk(walker: Walker, spot: Spot) -> Outcome:
        return await _asked(walker, method, spot, f"/manifests/{reference(spot)}", Accept=OCI_MANIFEST)

    return walk


def blob(method: str, digest: Callable[[Spot], str], **headers: str) -> Way:
    async def walk(walker: Walker, spot: Spot) -> Outcome:
        return await _asked(walker, method, spot, f"/blobs/{digest(spot)}", **headers)

    return walk


def mount(source: Callable[[Spot], Mapping[str, str]]) -> Way:
    async def walk(walker: Walker, spot: Spot) -> Outcome:
        into = f"/v2/mine/{spot.gate}-{spot.state}-{'w' if walker.is_writer else 'r'}/blobs/uploads/"
        answer = await ask(walker.client, "POST", into, params={"mount": spot.layer, **source(spot)})
        return Outcome(answer.status)

    return walk


async def promote(walker: Walker, spot: Spot) -> Outcome:
    """Into a repository of one's own, whose gate is off; and to read there what came."""
    into = f"mine/promoted-{spot.gate}-{spot.state}"
    wanted = {"source": f"{spot.repository}@{spot.image.digest}", "to": f"{into}:1"}
    for path in ("/preview", ""):
        answer = await ask(walker.client, "POST", f"/api/v1/promotions{path}", json=wanted)
        if path and answer.status == 200:
            assert answer.json["would"] == "refuse"
    for kind, digest in (("manifests", spot.image.digest), ("blobs", spot.layer), ("blobs", spot.config)):
        there = await ask(walker.client, "GET", f"/v2/{into}/{kind}/{digest}")
        assert there.status == 404, (spot.gate, spot.state, kind)
    return Outcome(answer.status)


def _cell(walker: Walker, spot: Spot) -> type:
    answer: type = TABLE[spot.row][GATES.index(spot.gate)]
    if walker.is_writer and (answer in (WAIT, EARLIER) or (answer is NO and spot.row != "blocked")):
        return YES
    return answer


def _told(answer: type, spot: Spot, pushed: str, *, status: int = 200, by_tag: bool = False) -> Outcome:
    """What is expected: ``pushed`` is the digest that was asked for."""
    if answer is EARLIER:
        if by_tag:
            return Outcome(status, str(spot.good.digest), warned=True)
        answer = WAIT if spot.row == "pending" else NO
    if answer in (YES, HEADER):
        return Outcome(status, pushed, warned=answer is HEADER)
    return Outcome(403, retry=answer is WAIT)


def by_tag(walker: Walker, spot: Spot) -> Outcome:
    return _told(_cell(walker, spot), spot, spot.image.digest, by_tag=True)


def by_digest(walker: Walker, spot: Spot) -> Outcome:
    return _told(_cell(walker, spot), spot, spot.image.digest)


def index_by_tag(walker: Walker, spot: Spot) -> Outcome:
    # It never had another image.
    return _told(_cell(walker, spot), spot, spot.index.digest)


def as_blob(digest: Callable[[Spot], str], status: int = 200) -> Expected:
    def expected(walker: Walker, spot: Spot) -> Outcome:
        told = _told(_cell(walker, spot), spot, digest(spot), status=status)
        return Outcome(told.status, told.served, retry=told.retry)  # a blob carries no warning

    return expected


def as_several_ranges(walker: Walker, spot: Spot) -> Outcome:
    return as_blob(lambda spot: spot.layer, 206)(walker, spot)


def mounted(walker: Walker, spot: Spot) -> Outcome:
    return Outcome(201 if by_digest(walker, spot).status == 200 else 202)


def never_promoted(walker: Walker, spot: Spot) -> Outcome:
    """No worker judged any of these images: whatever stands on its row, that is no pass elsewhere."""
    return Outcome(403)


def always(digest: Callable[[Spot], str]) -> Expected:
    return lambda walker, spot: Outcome(200, digest(spot))


WAYS: Mapping[str, tuple[Way, Expected]] = {
    "tag": (manifest("GET", lambda spot: spot.state), by_tag),
    "HEAD of the tag": (manifest("HEAD", lambda spot: spot.state), by_tag),
    "digest": (manifest("GET", lambda spot: spot.image.digest), by_digest),
    "HEAD of the digest": (manifest("HEAD", lambda spot: spot.image.digest), by_digest),
    "index by tag": (manifest("GET", lambda spot: f"index-{spot.state}"), index_by_tag),
    "index by digest": (manifest("GET", lambda spot: spot.index.digest), index_by_tag),
    "layer": (blob("GET", lambda spot: spot.layer), as_blob(lambda spot: spot.layer)),
    "HEAD of the layer": (blob("HEAD", lambda spot: spot.layer), as_blob(lambda spot: spot.layer)),
    "range": (blob("GET", lambda spot: spot.layer, Range="bytes=1-5"), as_blob(lambda spot: spot.layer, 206)),
    "ranges": (blob("GET", lambda spot: spot.layer, Range="bytes=1-5,7-9"), as_several_ranges),
    "config": (blob("GET", lambda spot: spot.config), as_blob(lambda spot: spot.config)),
    "mount": (mount(lambda spot: {"from": spot.repository}), mounted),
    "mount from anywhere": (mount(lambda _: {}), mounted),
    "promotion": (promote, never_promoted),
    # The reason must be readable, and so is what was signed.
    "referrer": (manifest("GET", lambda spot: spot.signature), always(lambda spot: spot.signature)),
}
FOR_WRITERS = (
    *("tag", "HEAD of the digest", "index by tag", "layer", "ranges", "mount", "promotion", "referrer"),
)


async def test_every_way_to_the_bytes_of_an_image(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate="off", verdict_max_age_days=30) as port:
        spots = []
        for gate in GATES:
            good, repository = tiny_image(), f"walk/{gate}"
            await make_repository(port.admin, repository, gate=gate)
            await port.push(good, repository=repository, tag="good")
            await push_blob(port.admin, repository, EMPTY)
            found = (state for on, state in BY_FINDINGS if on == gate)
            spots += [await _prepared(port, gate, state, good) for state in (*TABLE, *found)]
        await _stand(port, spots)
        scopes = ("repository:walk/*:pull", "repository:mine/*:pull,push")
        reader = await _client(port, (await make_token(port.admin, *scopes))["token"])
        wrong = []
        for walker, names in ((Walker(reader, False), tuple(WAYS)), (Walker(port.admin, True), FOR_WRITERS)):
            for name in names:
                walk, expected = WAYS[name]
                outcomes = await asyncio.gather(*(walk(walker, spot) for spot in spots))
                wrong += [
                    (name, "writer" if walker.is_writer else "reader", spot.gate, spot.state, seen, wanted)
                    for spot, seen in zip(spots, outcomes, strict=True)
                    if seen != (wanted := expected(walker, spot))
                ]
        assert wrong == []
        for spot in spots:
            if spot.state.endswith(FOUND) and spot.row != "warn":
                refused = await ask(reader, "GET", f"/v2/{spot.repository}/manifests/{spot.image.digest}")
                (named,) = refused.json["errors"][0]["detail"]["findings"]
                assert named == FINDING
            listed = await ask(reader, "GET", f"/v2/{spot.repository}/referrers/{spot.image.digest}")
            assert [one["digest"] for one in listed.json["manifests"]] == [spot.signature]


async def _prepared(port: Port, gate: str, state: str, good: Image) -> Spot:
    repository, image = f"walk/{gate}", tiny_image()
    await put_manifest(port.admin, repository, state, good.manifest)
    await port.push(image, repository=repository, tag=state)
    index = make_index(image)
    await put_manifest(port.admin, repository, f"index-{state}", index.manifest, OCI_INDEX)
    return Spot(gate, state, image, index, good, await _signed(port, repository, image))


async def _signed(port: Port, repository: str, image: Image) -> str:
    raw = to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/vnd.example.signature",
            "config": descriptor(EMPTY, "application/vnd.oci.empty.v1+json"),
            "layers": [descriptor(EMPTY, "application/vnd.oci.empty.v1+json")],
            "subject": descriptor(image.manifest, OCI_MANIFEST),
        }
    )
    digest = digest_of(raw)
    assert (await put_manifest(port.admin, repository, digest, raw)).status == 201
    return digest


async def _stand(port: Port, spots: list[Spot]) -> None:
    """Let the images stand in their states, and those of before pass."""
    async with port.database.write() as connection:
        for spot in spots:
            values: dict[str, object] = {"state": spot.row, "state_reason": "because", "state_at": db_time()}
            values |= ROWS.get(spot.row, {})
            if spot.state.endswith(FOUND):
                await connection.execute(_found(spot))
            for digest, columns in (
                (spot.good.digest, {"state": "pass", "state_at": db_time()}),
                (spot.image.digest, values),
                (spot.index.digest, values),
            ):
                await connection.execute(
                    update(manifests).where(manifests.c.digest == digest).values(columns)
                )
        await move_epoch(connection, "gate")


def _found(spot: Spot) -> Insert:
    """What a policy made of the image of a spot."""
    decisive = {"verdict": spot.row, "severity": "", "where": "", **FINDING}
    values = {
        "policy_digest": literal("sha256:0"),
        "verdict": literal(spot.row),
        "reason": literal("because"),
        "reasons": literal(json.dumps({"count": 1, "first": [decisive]})),
        "excused": literal(NOTHING),
        "judged_at": db_time(),
        "waits": literal(False),
        "matching": literal(0),
    }
    image = select(manifests.c.id, *values.values()).where(manifests.c.digest == spot.image.digest)
    return insert(image_findings).from_select(["manifest_id", *values], image)


async def _client(port: Port, token: str) -> aiohttp.ClientSession:
    return await port.stack.enter_async_context(port.registry.client(token))
