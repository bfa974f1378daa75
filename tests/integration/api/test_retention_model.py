"""Retention against a small model of it: pushes, deletions, tags that come back, days, runs, their undoing
and collections, as hypothesis orders them. Nothing that a tag reaches is ever lost, and nothing else stays
for ever.

``SEATRIAL_TEST_EXAMPLES`` multiplies how much is tried.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from registry.db.engine import Database
from tests.kit.access import api, ask
from tests.kit.collecting import collect
from tests.kit.distribution import (
    EMPTY_CONFIG,
    error_code,
    push_blob,
    put_manifest,
    small_index,
    small_manifest,
)
from tests.kit.images import OCI_INDEX, OCI_MANIFEST, descriptor, digest_of
from tests.kit.retention import age, carry_out, set_policy
from tests.kit.server import running_replicas

FACTOR = int(os.environ.get("SEATRIAL_TEST_EXAMPLES", "1"))
SEEDS = itertools.count(1)
MOVED, UNTAGGED = 2, 3
"""Days that the policy keeps tags that moved, and manifests without a tag."""
TAGS = ("stays-1", "x", "y")
IMAGES, LISTS = range(4), {"index": (0, 1), "nested": ("index", 2)}
ABOUT = {"about": 0, "about-index": "index", "about-about": "about"}
KEYS = (*IMAGES, *LISTS, *ABOUT)


@dataclass
class Model:
    """What there is in one repository: since when each manifest is there, and no tag names it; and tags, with
    what they name and since when. In days. ``gone`` are deleted manifests, since when they are; ``was`` is
    what each tag named that was there once."""

    manifests: dict[Any, int] = field(default_factory=dict)
    untagged: dict[Any, int] = field(default_factory=dict)
    tags: dict[str, tuple[Any, int]] = field(default_factory=dict)
    gone: dict[Any, int] = field(default_factory=dict)
    was: dict[str, Any] = field(default_factory=dict)

    def push(self, key: Any, tag: str | None) -> None:
        self.manifests.setdefault(key, 0)
        self.gone.pop(key, None)
        if tag is not None and self.tags.get(tag, (None, 0))[0] != key:
            self.drop(tag)
            self.tags[tag] = (key, 0)

    def drop(self, tag: str) -> None:
        if tag in self.tags:
            key, _ = self.tags.pop(tag)
            self.untagged[key], self.was[tag] = 0, key

    def delete(self, key: Any) -> None:
        self.manifests.pop(key)
        self.gone[key] = 0
        for tag in [tag for tag, (named, _) in self.tags.items() if named == key]:
            self.drop(tag)

    def older(self, days: int) -> None:
        self.manifests = {key: then + days for key, then in self.manifests.items()}
        self.untagged = {key: then + days for key, then in self.untagged.items()}
        self.tags = {tag: (key, then + days) for tag, (key, then) in self.tags.items()}
        self.gone = {key: then + days for key, then in self.gone.items()}

    def retain(self) -> tuple[set[str], set[Any]]:
        """What goes."""
        tags = {tag for tag, (_, then) in self.tags.items() if then >= MOVED and not tag.startswith("stays")}
        for tag in tags:
            self.drop(tag)
        gone: set[Any] = set()
        while fresh := {key for key in self.manifests if key not in gone and self._is_loose(key, gone)}:
            gone |= fresh
        for key in gone:
            del self.manifests[key]
            self.gone[key] = 0
        return tags, gone

    def can_restore(self, tag: str) -> bool:
        """Whether what a deleted tag named is there, or can be brought back on the day on which it went."""
        key = self.was.get(tag)
        if tag in self.tags or key is None:
            return False
        is_back = self.gone.get(key) == 0 and all(one in self.manifests for one in LISTS.get(key, ()))
        return key in self.manifests or is_back

    def _is_loose(self, key: Any, gone: set[Any]) -> bool:
        there = self.manifests.keys() - gone
        return (
            self.manifests[key] >= UNTAGGED
            and self.untagged.get(key, UNTAGGED) >= UNTAGGED
            and key not in {named for named, _ in self.tags.values()}
            and not any(key in listed for one, listed in LISTS.items() if one in there)
            and ABOUT.get(key) not in there
        )

    def reached(self) -> set[Any]:
        """What a tag reaches."""
        found = {named for named, _ in self.tags.values()}
        while True:
            more = {child for key in found for child in LISTS.get(key, ()) if child in self.manifests}
            more |= {key for key, subject in ABOUT.items() if subject in found and key in self.manifests}
            if more <= found:
                return found
            found |= more


class Player:
    """Does to a repository what the model says."""

    def __init__(self, clients: list[aiohttp.ClientSession], database: Database, seed: int) -> None:
        self._turns = itertools.cycle(clients)
        self._database = database
        self.name, self.other = f"play{seed}/app", f"play{seed}/source"
        self.layers = {key: f"{seed} layer {key}".encode() * 20 for key in IMAGES}
        self.raw: dict[Any, bytes] = {}
        for key in IMAGES:
            self.raw[key] = small_manifest([self.layers[key]], annotations={"n": f"{seed} {key}"})
        for key, listed in LISTS.items():
            members = [descriptor(self.raw[one], self.type_of(one)) for one in listed]
            self.raw[key] = small_index(annotations={"n": f"{seed} {key}"}, manifests=members)
        for key, subject in ABOUT.items():
            about = descriptor(self.raw[subject], self.type_of(subject))
            self.raw[key] = small_manifest(annotations={"n": f"{seed} {key}"}, subject=about)

    @property
    def client(self) -> aiohttp.ClientSession:
        return next(self._turns)

    def type_of(self, key: Any) -> str:
        return OCI_INDEX if key in LISTS else OCI_MANIFEST

    async def begin(self) -> None:
        for layer in (*self.layers.values(), EMPTY_CONFIG):
            await push_blob(self.client, self.other, layer)
        await self._mount(EMPTY_CONFIG)  # which makes the repository
        await set_policy(
            self.client,
            self.name,
            keep=[{"tags": {"by": "glob", "pattern": "stays*"}}, {"moved_days": MOVED}],
            untagged_days=UNTAGGED,
            cap_percent=100,
        )

    async def push(self, key: Any, tag: str | None) -> None:
        # What nothing named for days was collected.
        for content in (EMPTY_CONFIG, *([self.layers[key]] if key in self.layers else ())):
            await self._mount(content)
        raw = self.raw[key]
        answer = await put_manifest(self.client, self.name, tag or digest_of(raw), raw, self.type_of(key))
        assert answer.status == 201, answer.body

    async def _mount(self, layer: bytes) -> None:
        query = {"mount": digest_of(layer), "from": self.other}
        mounted = await ask(self.client, "POST", f"/v2/{self.name}/blobs/uploads/", params=query)
        assert mounted.status == 201, mounted.body

    async def delete(self, reference: str) -> None:
        assert (await ask(self.client, "DELETE", f"/v2/{self.name}/manifests/{reference}")).status == 202

    async def restore(self, tag: str) -> None:
        path = f"/repositories/{self.name.replace('/', '%2F')}/tags/{tag}/restore"
        await api(self.client, "POST", path, json={})

    async def retain(self) -> tuple[int, set[str], set[str]]:
        run = await carry_out(self.client, self.name)
        assert run["outcome"] == "done", run
        found = await api(self.client, "GET", f"/retention/runs/{run['id']}/items", params={"limit": "1000"})
        items = found["items"]
        tags = {item["tag"] for item in items if item["tag"]}
        return run["id"], tags, {item["digest"] for item in items if not item["tag"]}

    async def undo(self, run: int, count: int) -> None:
        undone = await api(self.client, "POST", f"/retention/runs/{run}/undo")
        assert (undone["restored"], undone["not_restored"], undone["left"]) == (count, [], 0)

    async def older(self, days: int) -> None:
        await age(self._database, days, of=self.name)

    async def look(self, model: Model) -> None:
        """Hold what there is against the model: all that it has is whole."""
        path = f"/repositories/{self.name.replace('/', '%2F')}/tags"
        listed = (await api(self.client, "GET", path))["items"]
        assert {one["name"]: one["digest"] for one in listed} == {
            tag: digest_of(self.raw[key]) for tag, (key, _) in model.tags.items()
        }
        for key in KEYS:
            answer = await ask(self.client, "GET", f"/v2/{self.name}/manifests/{digest_of(self.raw[key])}")
            assert (answer.status == 200) == (key in model.manifests), key
            if key in model.manifests and key in self.layers:
                blob = f"/v2/{self.name}/blobs/{digest_of(self.layers[key])}"
                assert (await ask(self.client, "GET", blob)).body == self.layers[key], key


@asynccontextmanager
async def opened(
    folder: Path, url: str, **storage: Any
) -> AsyncIterator[tuple[list[aiohttp.ClientSession], Database]]:
    """One registry on SQLite, two replicas on PostgreSQL. Pulls are not written: they would keep all."""
    count = 1 if make_url(url).get_backend_name() == "sqlite" else 2
    given = {"access_log": False, "collection_every_seconds": 0, **storage}
    async with (
        AsyncExitStack() as stack,
        running_replicas(folder, url, count, **given) as registries,
    ):
        clients = [await stack.enter_async_context(one.client()) for one in registries]
        database = Database(url)
        stack.push_async_callback(database.close)
        yield clients, database


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """The event loop of a test that hypothesis calls many times over one registry."""
    with asyncio.Runner() as made:
        yield made


OPERATIONS = st.one_of(
    st.tuples(st.just("push"), st.sampled_from(KEYS), st.none() | st.sampled_from(TAGS)),
    st.tuples(st.just("push"), st.sampled_from(KEYS), st.none() | st.sampled_from(TAGS)),
    st.tuples(st.just("drop"), st.sampled_from(TAGS)),
    st.tuples(st.just("delete"), st.sampled_from(KEYS)),
    st.tuples(st.just("restore"), st.permutations(TAGS), st.booleans()),
    st.tuples(st.just("older"), st.sampled_from((1, 2, 3))),
    st.tuples(st.just("older"), st.sampled_from((1, 2, 3))),
    st.tuples(st.just("retain")),
    st.tuples(st.just("undone")),
    st.tuples(st.just("collect")),
)


@pytest.mark.timeout(600 * FACTOR)
def test_nothing_that_a_tag_reaches_is_lost_and_nothing_else_stays(
    tmp_path: Path, database_url: str, storage: dict[str, Any], runner: asyncio.Runner
) -> None:
    registry = opened(tmp_path, database_url, **storage)
    clients, database = runner.run(registry.__aenter__())

    @settings(
        max_examples=8 * FACTOR,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.generate,) if FACTOR == 1 else (Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(OPERATIONS, min_size=10, max_size=30))
    def play(operations: list[tuple[Any, ...]]) -> None:
        runner.run(play_in_turn(Player(clients, database, next(SEEDS)), operations))

    try:
        play()
    finally:
        runner.run(registry.__aexit__(None, None, None))


async def play_in_turn(player: Player, operations: list[tuple[Any, ...]]) -> None:
    model = Model()
    await player.begin()
    for operation in operations:
        await do(player, model, *operation)
    await player.look(model)
    # Days later only what a tag reaches that is kept is there, and no bytes of anything else.
    for _ in range(2):
        model.older(9)
        await player.older(9)
        await do(player, model, "retain")
    assert set(model.manifests) == model.reached()
    await player.look(model)
    # One lets the grace begin that the last run has left to it, one condemns, and one removes.
    for _ in range(3):
        await collect(player.client)
        await player.older(9)
    await player.look(model)
    for key, layer in player.layers.items():
        found = await ask(player.client, "HEAD", f"/v2/{player.name}/blobs/{digest_of(layer)}")
        assert (found.status == 200) == (key in model.manifests), key


async def do(player: Player, model: Model, kind: str, *given: Any) -> None:
    match kind:
        case "push":
            key, tag = given
            if not all(one in model.manifests for one in LISTS.get(key, ())):
                return
            model.push(key, tag)
            await player.push(key, tag)
        case "drop" if given[0] in model.tags:
            model.drop(given[0])
            await player.delete(given[0])
        case "delete" if given[0] in model.manifests:
            model.delete(given[0])
            await player.delete(digest_of(player.raw[given[0]]))
        case "restore":
            await delete_and_restore(player, model, *given)
        case "older":
            model.older(given[0])
            await player.older(given[0])
        case "retain":
            tags, gone = model.retain()
            _, deleted, manifests = await player.retain()
            assert (deleted, manifests) == (tags, {digest_of(player.raw[key]) for key in gone})
        case "undone":
            before = dict(model.tags)
            tags, gone = model.retain()
            run, deleted, _ = await player.retain()
            assert deleted == tags
            await player.undo(run, len(tags) + len(gone))
            for key in gone:
                model.push(key, None)
            for tag in tags:
                model.push(before[tag][0], tag)
            await player.look(model)
        case "collect":
            await collect(player.client)
            await player.look(model)


async def delete_and_restore(player: Player, model: Model, tags: list[str], by_digest: bool) -> None:
    """Delete the first of the tags that is there, or its image; and bring back all that can come back."""
    for tag in [tag for tag in tags if tag in model.tags][:1]:
        await do(player, model, *(("delete", model.tags[tag][0]) if by_digest else ("drop", tag)))
    while could := [tag for tag in tags if model.can_restore(tag)]:
        model.push(model.was[could[0]], could[0])
        await player.restore(could[0])
    await player.look(model)


ROUNDS = 6


@pytest.mark.timeout(600)
async def test_pushes_while_runs_delete(tmp_path: Path, database_url: str) -> None:
    """What was old and named by nothing is tagged and listed while runs delete it, on two replicas
    where the database takes them: whatever a client was told is there is there whole."""
    async with opened(tmp_path, database_url) as (clients, database):
        first, last = clients[0], clients[-1]
        for number in range(ROUNDS):
            player = Player(clients, database, next(SEEDS))
            await player.begin()
            for key in (*IMAGES, "index", "about"):
                await player.push(key, None)
            for number_of in range(20):  # so that a run takes a while
                raw = small_manifest(annotations={"n": f"{number} more {number_of}"})
                assert (await put_manifest(first, player.name, digest_of(raw), raw)).status == 201
            await player.older(9)

            async def push_listed(player: Player = player) -> None:
                """As clients do: what it lists first, and all again where the registry says so."""
                while True:
                    for key in (0, 1):
                        await player.push(key, None)
                    answer = await put_manifest(last, player.name, "x", player.raw["index"], OCI_INDEX)
                    if answer.status == 201:
                        return
                    assert error_code(answer.body) == "MANIFEST_BLOB_UNKNOWN"

            await asyncio.gather(
                carry_out(first, player.name),
                carry_out(last, player.name),
                player.push(2, "y"),
                push_listed(),
                player.push("about", None),
                player.push(3, "stays-1"),
            )
            for key in ("index", 0, 1, 2, 3):
                found = await ask(last, "GET", f"/v2/{player.name}/manifests/{digest_of(player.raw[key])}")
                assert found.status == 200, (key, number)
            for key in IMAGES:
                found = await ask(first, "GET", f"/v2/{player.name}/blobs/{digest_of(player.layers[key])}")
                assert found.body == player.layers[key]
            await carry_out(first, player.name)
            await collect(last)
            assert (await ask(last, "GET", f"/v2/{player.name}/manifests/y")).status == 200
