"""Webhooks whole: made by API, sent from the outbox, signed, logged, sent again; and receivers that fail."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from sqlalchemy import func, select, update

from registry.auth.actor import REGISTRY
from registry.db.accounts import tokens
from registry.db.engine import Database
from registry.db.events import events
from registry.db.outbox import record_all
from registry.db.types import db_time
from registry.db.webhooks import deliveries, webhooks
from registry.events import deliverykeeping
from registry.events.attempts import Pace
from registry.http.sweeps import sweep
from tests.kit.access import api, bearer, give_role, make_token, make_user
from tests.kit.distribution import push_image, push_small
from tests.kit.images import file, make_image, make_layer
from tests.kit.ports import free_port
from tests.kit.receiver import Receiver, running_receiver
from tests.kit.server import Registry, running_registry

FAST = Pace(
    attempt_seconds=30,
    lease_seconds=120,
    poll_seconds=0.05,
    first_retry_seconds=0.02,
    last_retry_seconds=0.1,
    disable_seconds=3600,
    attempts=12,
)
NAME = "team/app"
T = TypeVar("T")


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    async with running_registry(
        tmp_path / "data", database_url, pace=FAST, outgoing_networks=("127.0.0.0/8",)
    ) as running:
        yield running


@pytest.fixture
def database(registry: Registry) -> Database:
    assert registry.services is not None
    return registry.services.database


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running


async def make_webhook(client: aiohttp.ClientSession, receiver: Receiver, **given: Any) -> Any:
    """A webhook for this receiver, which from then on checks its signatures."""
    body = {"url": receiver.url, **given}
    made = await api(client, "POST", "/webhooks", status=201, json=body)
    receiver.secrets = [made["secret"]]
    return made


async def tell(database: Database, count: int, repository: str | None = NAME, *, first: int = 0) -> None:
    """So many events of one transaction."""
    async with database.write() as connection:
        told = [{"tag": "t", "number": first + number} for number in range(count)]
        await record_all(connection, "tag.moved", repository, REGISTRY, told)


def numbers(receiver: Receiver, repository: str = NAME) -> list[int]:
    """What came through of a repository, in the order in which it came, each once."""
    found = [each.json["data"] for each in receiver.taken]
    return list(
        dict.fromkeys(data["details"]["number"] for data in found if data["repository"] == repository)
    )


async def delivery_of(client: aiohttp.ClientSession, hook: Any, **query: str) -> Any:
    """The newest delivery that the query is about."""
    found = await api(client, "GET", f"/webhooks/{hook['id']}/deliveries", params=query)
    return found["items"][0] if found["items"] else {"state": None, "last_attempts": []}


async def unplaced(database: Database) -> int:
    """How many events have no position yet."""
    query = select(func.count()).select_from(events).where(events.c.position.is_(None))
    async with database.read() as connection:
        return int((await connection.execute(query)).scalar_one())


async def states(client: aiohttp.ClientSession, hook: Any) -> set[str]:
    """The states of its deliveries."""
    found = await api(client, "GET", f"/webhooks/{hook['id']}/deliveries")
    return {each["state"] for each in found["items"]}


async def webhook_of(client: aiohttp.ClientSession, hook: Any) -> Any:
    """The webhook as it stands now."""
    return await api(client, "GET", f"/webhooks/{hook['id']}")


async def eventually(look: Callable[[], Awaitable[T]], wanted: Callable[[T], object]) -> T:
    """What ``look`` sees, once it is as ``wanted``."""
    ends_at = time.monotonic() + 60
    while not wanted(seen := await look()):
        assert time.monotonic() < ends_at, seen
        await asyncio.sleep(0.05)
    return seen


async def test_a_push_is_told_signed_with_where_the_image_comes_from(
    registry: Registry, client: aiohttp.ClientSession, receiver: Receiver
) -> None:
    await push_small(client, NAME, "before")
    hook = await make_webhook(client, receiver, repository=NAME, ordered=True)
    labels = {"org.opencontainers.image.source": "https://example.org/app"}
    image = make_image(
        make_layer(file("app", b"x")),
        config={"Labels": {**labels, "org.opencontainers.image.revision": "label"}},
        annotations={"org.opencontainers.image.revision": "abc123"},
    )
    digest = await push_image(client, NAME, "1", image)
    await push_small(client, "other/app", "1")
    got = await receiver.until(2)
    assert [each.json["type"] for each in got] == ["seatrial.manifest.pushed", "seatrial.tag.moved"]
    assert got[0].headers["content-type"].startswith("application/cloudevents+json")
    event = got[0].json
    assert (event["subject"], event["data"]["details"]["digest"]) == (NAME, digest)
    # The manifest's annotation counts more than the config's label.
    assert event["data"]["image"]["source"] == labels["org.opencontainers.image.source"]
    assert event["data"]["image"]["revision"] == "abc123"
    assert event["data"]["image"]["pushed_by"] == "admin"
    shown = await eventually(lambda: delivery_of(client, hook), lambda told: told["state"] == "delivered")
    assert (shown["attempts"], shown["kind"]) == (1, "tag.moved")
    (attempt,) = shown["last_attempts"]
    assert (attempt["status"], "error" in attempt) == (204, False)
    assert shown["body"].encode() == got[1].body
    # Nothing of before, nothing of others; and the secret is in no answer.
    assert len(receiver.got) == 2
    listed = await api(client, "GET", "/webhooks", params={"repository": NAME})
    assert [each["id"] for each in listed["items"]] == [hook["id"]]
    assert hook["secret"] not in str(listed)


async def test_kinds_places_formats_rotation_tests_and_sending_again(
    registry: Registry, client: aiohttp.ClientSession, database: Database, receiver: Receiver
) -> None:
    await push_small(client, NAME, "1")
    hook = await make_webhook(client, receiver, namespace="team", kinds=["manifest.pushed"], format="docker")
    path = f"/webhooks/{hook['id']}"
    digest = await push_small(client, NAME, "2", annotations={"a": "b"})
    (got,) = await receiver.until(1)
    (event,) = got.json["events"]
    assert (event["action"], event["target"]["tag"], event["target"]["digest"]) == ("push", "2", digest)
    # Both secrets sign while one takes the other's place.
    rotated = await api(client, "POST", f"{path}/rotate", json={})
    assert rotated["old_secret_until"] is not None
    receiver.secrets = [hook["secret"], rotated["secret"]]
    sent = await api(client, "POST", f"{path}/test", status=202)
    assert sent["kind"] == "webhook.test"
    await receiver.until(2)
    assert receiver.got[1].headers["webhook-signature"].count("v1,") == 2
    # The receiver knows of a delivery before its row says so.
    await eventually(partial(states, client, hook), lambda seen: seen == {"delivered"})
    last = await api(client, "POST", f"{path}/rotate", json={"at_once": True})
    receiver.secrets = [last["secret"]]
    again = await api(client, "POST", f"{path}/deliveries/{sent['id']}/redeliver", status=202)
    assert (again["id"], again["state"], again["attempts"]) == (sent["id"], "pending", 0)
    await receiver.until(3)
    assert receiver.got[2].id == receiver.got[1].id
    assert receiver.got[2].headers["webhook-signature"].count("v1,") == 1
    # All since a time that have ended, with the ids of before.
    await eventually(partial(states, client, hook), lambda seen: seen == {"delivered"})
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    told = await api(client, "POST", f"{path}/redeliver", status=202, json={"since": since})
    assert told == {"deliveries": 2}
    await receiver.until(5)
    assert {each.id for each in receiver.got[3:]} == {got.id, sent["id"]}
    # Disabled it gets nothing, and says so to whoever wants to try.
    assert (await api(client, "PATCH", path, json={"enabled": False}))[
        "disabled_reason"
    ] == "disabled by admin"
    await push_small(client, NAME, "3", annotations={"a": "c"})
    await eventually(partial(unplaced, database), lambda count: count == 0)
    refused = await api(client, "POST", f"{path}/test", status=409)
    assert "disabled" in refused["detail"]
    await api(client, "PATCH", path, json={"enabled": True, "url": f"{receiver.url}?a=b"})
    digest = await push_small(client, NAME, "4", annotations={"a": "d"})
    got = (await receiver.until(6))[-1]
    assert got.json["events"][0]["target"]["digest"] == digest
    async with database.read() as connection:
        kinds = (await connection.execute(select(events.c.kind, events.c.data))).all()
    told_of = {kind: data for kind, data in kinds if kind.startswith("webhook.")}
    assert set(told_of) == {"webhook.created", "webhook.rotated", "webhook.changed"}
    assert "hook" not in told_of["webhook.created"]  # nothing of the address but its origin
    await api(client, "DELETE", path, status=204)
    await api(client, "GET", path, status=404)


async def test_rights_and_what_is_no_webhook(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, receiver: Receiver
) -> None:
    await push_small(client, NAME, "1")
    signed = {}
    for name, role in (("mia", "maintainer"), ("wim", "writer")):
        password = await make_user(client, name)
        await give_role(client, "team/", f"user:{name}", role)
        signed[name] = registry.client(password, user=name)
    mia, wim = signed["mia"], signed["wim"]
    hook = await api(mia, "POST", "/webhooks", status=201, json={"url": receiver.url, "repository": NAME})
    await api(wim, "POST", "/webhooks", status=403, json={"url": receiver.url, "repository": NAME})
    await api(mia, "POST", "/webhooks", status=403, json={"url": receiver.url})
    await api(mia, "GET", "/webhooks", status=403)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/test"), ("GET", "/deliveries")):
        await api(wim, method, f"/webhooks/{hook['id']}{path}", status=404)
    await api(mia, "GET", f"/webhooks/{hook['id']}")
    bad: list[tuple[dict[str, Any], str]] = [
        ({}, "needs a url"),
        ({"url": "ftp://example.org/"}, "http"),
        ({"url": "https://user:word@example.org/"}, "user name"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "credentials"),
        ({"url": "https://[::ffff:169.254.169.254]/"}, "credentials"),
        ({"url": "http://10.0.0.1/"}, "no network"),
        ({"url": "https://192.168.1.1/"}, "no network"),
        ({"url": "https://example.org:25/"}, "port 25"),
        ({"url": receiver.url, "kinds": ["tag.*", "tags.moved"]}, "tags.moved"),
        ({"url": receiver.url, "kinds": []}, "1 to 50"),
        ({"url": receiver.url, "format": "xml"}, "format"),
        ({"url": receiver.url, "namespace": "team"}, "not of both"),
    ]
    for body, why in bad:
        told = await api(mia, "POST", "/webhooks", status=400, json={"repository": NAME, **body})
        assert why in told["detail"], body
    for _ in range(19):
        await api(mia, "POST", "/webhooks", status=201, json={"url": receiver.url, "repository": NAME})
    told = await api(mia, "POST", "/webhooks", status=409, json={"url": receiver.url, "repository": NAME})
    assert "20 are the limit" in told["detail"]
    for session in signed.values():
        await session.close()


async def test_a_receiver_that_fails_every_second_request_loses_nothing_and_keeps_its_order(
    client: aiohttp.ClientSession, database: Database, receiver: Receiver
) -> None:
    await push_small(client, NAME, "1")
    await push_small(client, "team/two", "1")
    failures = itertools.cycle((500, 0, 302))
    seen: Counter[str] = Counter()

    def every_second_of_each(number: int) -> int:
        assert receiver.coming is not None
        seen[receiver.coming.id] += 1
        return next(failures) if seen[receiver.coming.id] % 2 else 204

    receiver.answers = every_second_of_each
    receiver.headers = {"Location": "http://127.0.0.1:1/elsewhere"}
    hook = await make_webhook(client, receiver, namespace="team", kinds=["tag.moved"], ordered=True)
    for first in range(0, 24, 8):
        await tell(database, 8, first=first)
        await tell(database, 8, "team/two", first=first)
    await receiver.until(48, seconds=120)
    for name in (NAME, "team/two"):
        assert numbers(receiver, name) == list(range(24))
    assert receiver.most_at_once <= 2  # one of each repository
    (failed, *_) = [
        attempt
        for each in (await api(client, "GET", f"/webhooks/{hook['id']}/deliveries"))["items"]
        for attempt in each["last_attempts"]
        if attempt.get("status") == 302
    ]
    assert "redirects are not followed" in failed["error"]


async def test_what_is_stuck_keeps_nothing_but_its_own_repository_waiting(
    client: aiohttp.ClientSession, database: Database
) -> None:
    for name in (NAME, "team/two"):
        await push_small(client, name, "1")
    async with running_receiver() as receiver, running_receiver() as other:
        await make_webhook(client, receiver, namespace="team", kinds=["tag.moved"], ordered=True)
        await make_webhook(client, other, namespace="team", kinds=["tag.moved"])
        refused = asyncio.Event()

        def answer(number: int) -> int:
            # Until it is set: whatever is about the first repository fails.
            about = receiver.coming.json["data"]["repository"]
            return 500 if about == NAME and not refused.is_set() else 204

        receiver.answers = answer
        await tell(database, 3)
        await tell(database, 3, "team/two")
        await receiver.until(3)
        await other.until(6)
        assert numbers(receiver) == []
        assert numbers(receiver, "team/two") == [0, 1, 2]
        refused.set()
        await receiver.until(6)
        assert numbers(receiver) == [0, 1, 2]


async def test_what_is_sent_again_or_put_in_order_waits_for_the_first_and_keeps_nobody_busy(
    tmp_path: Path, database_url: str
) -> None:
    patient = replace(FAST, first_retry_seconds=60, last_retry_seconds=60)
    async with (
        running_registry(
            tmp_path / "data", database_url, pace=patient, outgoing_networks=("127.0.0.0/8",)
        ) as registry,
        registry.client() as client,
        running_receiver() as receiver,
        running_receiver() as other,
    ):
        assert registry.services is not None
        database = registry.services.database
        for name in (NAME, "team/two"):
            await push_small(client, name, "1")
        since = datetime.now(UTC) - timedelta(hours=1)
        hook = await make_webhook(client, receiver, namespace="team", kinds=["tag.moved"], ordered=True)
        await tell(database, FAST.batch + 4)
        await receiver.until(FAST.batch + 4)
        changed = await make_webhook(client, other, namespace="team", kinds=["tag.moved"])

        def refuse_the_first(number: int) -> int:
            assert receiver.coming is not None
            return 500 if receiver.coming.json["data"]["repository"] == NAME else 204

        receiver.answers = refuse_the_first
        other.answers = lambda number: 500
        path = f"/webhooks/{hook['id']}"
        await eventually(partial(states, client, hook), lambda seen: seen == {"delivered"})
        await api(client, "POST", f"{path}/redeliver", status=202, json={"since": since.isoformat()})
        await eventually(partial(come, receiver), lambda count: count == FAST.batch + 5)
        # More that is due than one looks at, and none of it may go: another repository goes on.
        await tell(database, 3, "team/two")
        await receiver.until(FAST.batch + 7)
        assert numbers(receiver, "team/two") == [0, 1, 2]
        await eventually(partial(come, other), lambda count: count == 3)
        await api(client, "PATCH", f"/webhooks/{changed['id']}", json={"ordered": True})
        for each in (hook, changed):
            await eventually(partial(resting, database, each), lambda told: told == (True, 1))


async def come(receiver: Receiver) -> int:
    """How many requests came."""
    return len(receiver.got)


async def resting(database: Database, hook: Any) -> tuple[bool, int]:
    """Whether nobody is at it nor will be soon, and for how many deliveries somebody will be."""
    timed = select(func.count()).where(
        deliveries.c.webhook_id == hook["id"], deliveries.c.due_at.is_not(None)
    )
    rests = webhooks.c.lease.is_(None) & (webhooks.c.next_at > db_time(timedelta(seconds=20)))
    async with database.read() as connection:
        is_left = await connection.execute(select(rests).where(webhooks.c.id == hook["id"]))
        return bool(is_left.scalar_one()), int((await connection.execute(timed)).scalar_one())


async def test_a_receiver_that_was_down_gets_everything_in_its_order(
    tmp_path: Path, database_url: str
) -> None:
    # However long it takes, it is tried seldom, and given up never.
    patient = replace(FAST, last_retry_seconds=1, attempts=1000)
    async with (
        running_registry(
            tmp_path / "data", database_url, pace=patient, outgoing_networks=("127.0.0.0/8",)
        ) as registry,
        registry.client() as client,
    ):
        assert registry.services is not None
        database = registry.services.database
        await push_small(client, NAME, "1")
        port = free_port()
        address = f"http://127.0.0.1:{port}/hook"
        body = {"url": address, "repository": NAME, "kinds": ["tag.*"], "ordered": True}
        hook = await api(client, "POST", "/webhooks", status=201, json=body)
        for first in range(0, 300, 100):
            await tell(database, 100, first=first)
            await asyncio.sleep(0.2)
        await eventually(partial(unplaced, database), lambda count: count == 0)
        await eventually(lambda: webhook_of(client, hook), lambda shown: shown["failing_since"] is not None)
        waiting = await delivery_of(client, hook)
        assert (waiting["state"], waiting["due_at"]) == ("pending", None)
        async with database.read() as connection:
            tried = (await connection.execute(select(func.sum(deliveries.c.attempts)))).scalar_one()
        assert 1 <= tried <= 60  # of 300 that wait only the first is tried
        async with running_receiver(port, secrets=[hook["secret"]]) as receiver:
            await receiver.until(300)
            assert numbers(receiver) == list(range(300))
            assert len(receiver.got) == 300
        await eventually(lambda: webhook_of(client, hook), lambda shown: shown["failing_since"] is None)
        backlog = await eventually(
            lambda: deliverykeeping.read_backlog(database), lambda told: not told.pending
        )
        assert backlog.disabled == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_slow_receivers_keep_nobody_waiting_and_are_asked_little_at_once(
    tmp_path: Path, database_url: str
) -> None:
    hasty = replace(FAST, attempt_seconds=1, attempts=1000)
    async with (
        running_registry(
            tmp_path / "data", database_url, pace=hasty, outgoing_networks=("127.0.0.0/8",)
        ) as registry,
        registry.client() as client,
        running_receiver() as slow,
        running_receiver() as quick,
    ):
        assert registry.services is not None
        await push_small(client, NAME, "1")
        slow.delay_seconds = 30
        hook = await make_webhook(client, slow, repository=NAME, kinds=["tag.*"])
        await make_webhook(client, quick, repository=NAME, kinds=["tag.*"])
        await tell(registry.services.database, 50)
        await quick.until(50)
        assert len({each.id for each in slow.got}) < 50, "none waits for what the slow one gets"

        async def tried() -> list[Any]:
            found = await api(
                client, "GET", f"/webhooks/{hook['id']}/deliveries", params={"state": "pending"}
            )
            return [each for each in found["items"] if each["last_attempts"]]

        (failed, *_) = await eventually(tried, bool)
        assert "does not answer within 1 seconds" in failed["last_attempts"][0]["error"]
        assert slow.most_at_once <= FAST.at_once


async def test_a_change_has_nobody_else_send_what_is_on_its_way(
    client: aiohttp.ClientSession, database: Database, receiver: Receiver
) -> None:
    await push_small(client, NAME, "1")
    receiver.delay_seconds = 0.8
    hook = await make_webhook(client, receiver, repository=NAME, kinds=["tag.*"])
    await tell(database, 1)
    await eventually(partial(come, receiver), lambda count: count == 1)
    await api(client, "PATCH", f"/webhooks/{hook['id']}", json={"kinds": ["tag.*", "image.*"]})
    await eventually(lambda: delivery_of(client, hook), lambda told: told["state"] == "delivered")
    assert len(receiver.got) == 1
    assert receiver.most_at_once == 1


async def test_a_delivery_that_is_refused_for_good_is_given_up_and_a_receiver_that_is_gone_disabled(
    client: aiohttp.ClientSession, database: Database, receiver: Receiver
) -> None:
    await push_small(client, NAME, "1")
    receiver.answers = lambda number: 400
    hook = await make_webhook(client, receiver, repository=NAME, kinds=["tag.*"])
    await tell(database, 1)
    told = await eventually(lambda: delivery_of(client, hook), lambda told: told["state"] == "failed")
    assert (told["attempts"], len(told["last_attempts"])) == (FAST.attempts, 8)
    # Days of failure, which the row remembers; here they are over at once.
    async with database.write() as connection:
        await connection.execute(update(webhooks).values(failing_since=db_time(-timedelta(days=4))))
    await tell(database, 1)
    shown = await eventually(lambda: webhook_of(client, hook), lambda told: told["disabled_at"] is not None)
    assert "nothing could be delivered since" in shown["disabled_reason"]
    await api(client, "PATCH", f"/webhooks/{hook['id']}", json={"enabled": True})
    receiver.answers = lambda number: 204
    await receiver.until(1)
    receiver.answers = lambda number: 410
    await tell(database, 1)
    shown = await eventually(lambda: webhook_of(client, hook), lambda told: told["disabled_at"] is not None)
    assert "410" in shown["disabled_reason"]
    async with database.read() as connection:
        query = select(events.c.kind).where(events.c.kind.in_(("webhook.disabled", "delivery.failed")))
        kinds = (await connection.execute(query.order_by(events.c.id))).scalars().all()
    assert kinds == ["delivery.failed", "webhook.disabled", "webhook.disabled"]


async def test_a_name_that_turns_out_to_be_inside_is_told_as_that(
    tmp_path: Path, sqlite_template: Path, receiver: Receiver
) -> None:
    path = tmp_path / "seatrial.db"
    shutil.copyfile(sqlite_template, path)
    async with (
        running_registry(tmp_path / "data", f"sqlite:///{path}", pace=FAST) as closed,
        closed.client() as client,
    ):
        url = f"https://localhost:{receiver.port}/hook"
        hook = await api(client, "POST", "/webhooks", status=201, json={"url": url})
        await api(client, "POST", f"/webhooks/{hook['id']}/test", status=202)
        told = await eventually(lambda: delivery_of(client, hook), lambda told: told["last_attempts"])
        assert "may not be asked: its address is in no network" in told["last_attempts"][0]["error"]
        assert "127.0.0.1" not in told["last_attempts"][0]["error"]
        refused = await api(client, "POST", "/webhooks", status=400, json={"url": "http://localhost/"})
        assert "SEATRIAL_OUTGOING_NETWORKS" in refused["detail"]


async def test_tokens_that_will_expire_are_told_of_once(
    registry: Registry, client: aiohttp.ClientSession, database: Database, receiver: Receiver
) -> None:
    assert registry.services is not None
    await make_webhook(client, receiver, kinds=["token.expiring"])
    scope = "repository:*:pull"
    made = [await make_token(client, scope, expires_seconds=30 * 86400) for _ in range(2)]
    await make_token(client, scope, expires_seconds=3600)
    async with database.write() as connection:
        await connection.execute(
            update(tokens)
            .where(tokens.c.id == made[0]["id"])
            .values(expires_at=db_time(timedelta(days=6)), created_at=db_time(-timedelta(days=24)))
        )
    await sweep(registry.services)
    await sweep(registry.services)
    (got,) = await receiver.until(1)
    assert got.json["data"]["target"] == made[0]["id"]
    assert got.json["data"]["details"]["account"] == "admin"
    await asyncio.sleep(0.3)
    assert len(receiver.got) == 1


async def test_what_is_over_goes_and_a_backlog_without_end_ends(
    client: aiohttp.ClientSession, database: Database, receiver: Receiver
) -> None:
    await push_small(client, NAME, "1")
    hook = await make_webhook(client, receiver, repository=NAME, kinds=["tag.*"])
    await tell(database, 30)
    await receiver.until(30)

    async def count() -> int:
        async with database.read() as connection:
            return int((await connection.execute(select(func.count()).select_from(deliveries))).scalar_one())

    await eventually(lambda: deliverykeeping.read_backlog(database), lambda told: not told.pending)
    assert await deliverykeeping.keep(database, finished_rows=10) == 20
    assert await count() == 10
    async with database.write() as connection:
        await connection.execute(update(deliveries).values(finished_at=db_time(-timedelta(days=15))))
    assert await deliverykeeping.keep(database) == 10
    receiver.delay_seconds = 30
    await tell(database, 100)
    await eventually(count, lambda rows: rows == 100)
    await deliverykeeping.keep(database, pending_rows=40)
    assert await count() == 40
    shown = await api(client, "GET", f"/webhooks/{hook['id']}")
    assert "more than 40 deliveries waited" in shown["disabled_reason"]


async def test_a_webhook_goes_with_its_repository_and_follows_its_name(
    client: aiohttp.ClientSession, database: Database, receiver: Receiver
) -> None:
    await push_small(client, NAME, "1")
    hook = await make_webhook(client, receiver, repository=NAME, kinds=["*"])
    await api(client, "POST", "/repositories/team%2Fapp/rename", json={"name": "team/new"})
    await receiver.until(2)
    # It did not ask for order, so the two go side by side.
    kinds = sorted(each.json["type"] for each in receiver.taken)
    assert kinds == ["seatrial.repository.renamed", "seatrial.webhook.created"]
    assert (await api(client, "GET", f"/webhooks/{hook['id']}"))["place"] == "team/new"
    await api(client, "DELETE", "/repositories/team%2Fnew", status=204)
    await api(client, "GET", f"/webhooks/{hook['id']}", status=404)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_token_for_less_does_not_reach_webhooks(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, receiver: Receiver
) -> None:
    await push_small(client, NAME, "1")
    token = await make_token(client, f"repository:{NAME}:pull,push")
    body = {"url": receiver.url, "repository": NAME}
    await api(nobody, "POST", "/webhooks", status=403, json=body, headers=bearer(token["token"]))
