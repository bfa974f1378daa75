"""Messages of others that ask for trials: signed, mapped, taken once, answered when there is a verdict."""

from __future__ import annotations

import asyncio
import hmac
import io
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook
from yarl import URL

from registry.db.hooks import hooks
from registry.db.types import db_time
from registry.trials import receiving
from tests.kit.access import Answer, api, ask, give_role, make_user
from tests.kit.receiver import running_receiver
from tests.kit.sources import ROOT
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image

BODY = json.dumps({"image": f"registry.example:5000/{REPOSITORY}:1"}).encode()


@pytest.fixture
async def port(tmp_path: Path, database_url: str) -> AsyncIterator[Port]:
    """As everywhere; receivers on loopback are told of what happens."""
    async with open_port(tmp_path / "data", database_url, outgoing_networks=("127.0.0.0/8",)) as opened:
        yield opened


async def make_hook(client: aiohttp.ClientSession, name: str = "ci", **given: Any) -> Any:
    body = {"name": name, "repository": REPOSITORY, **given}
    return await api(client, "POST", "/hooks", status=201, json=body)


def standard(secret: str, body: bytes, *, message_id: str = "m1", ago: int = 0) -> dict[str, str]:
    """Headers as a sender that uses the standard's library has them."""
    at = datetime.now(UTC) - timedelta(seconds=ago)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body.decode()),
    }


async def send(port: Port, name: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send a message as nobody."""
    async with aiohttp.ClientSession(port.registry.url) as nobody:
        return await ask(
            nobody,
            "POST",
            f"/hooks/{name}",
            data=io.BytesIO(body),
            headers={"Content-Type": "application/json", **headers},
        )


async def test_a_message_starts_a_trial_once_and_its_end_is_told(port: Port) -> None:
    digest = await port.push(tiny_image())
    async with running_receiver() as receiver:
        hook = await make_hook(port.admin, call_back=receiver.url)
        receiver.secrets = [hook["call_back_secret"]]
        headers = standard(hook["secret"], BODY)
        several = await asyncio.gather(*(send(port, "ci", BODY, headers) for _ in range(4)))
        assert {answer.status for answer in several} == {202}
        (trial,) = {answer.json["trials"][0]["id"] for answer in several}
        assert sorted(answer.json["repeated"] for answer in several) == [False, True, True, True]
        assert several[0].json["trials"][0]["url"].endswith(f"/api/v1/trials/{trial}")
        shown = await api(port.admin, "GET", f"/trials/{trial}")
        assert (shown["digest"], shown["created_by"], shown["cause"]) == (digest, "hook ci", "request")
        # Another message of the same is another wish.
        other = await send(port, "ci", BODY, standard(hook["secret"], BODY, message_id="m2"))
        assert other.json["trials"][0]["id"] != trial
        # Only of trials that it asked for is it told: the push has had one as well.
        assert len(await port.trials(digest)) == 3
        worker = await port.worker("w1")
        while (job := await worker.claim()) is not None:
            assert (await worker.report(job)).status == 204
        got = await receiver.until(2)
        told = {each.json["data"]["details"]["trial"]: each.json["data"]["details"] for each in got}
        assert told[trial]["verdict"] == "pass"
        assert set(told) == {trial, other.json["trials"][0]["id"]}
    shown = await api(port.admin, "GET", "/hooks/ci")
    assert shown["webhook_id"] is not None
    assert hook["secret"] not in str(shown)
    await api(port.admin, "DELETE", "/hooks/ci", status=204)
    await api(port.admin, "GET", f"/webhooks/{shown['webhook_id']}", status=404)
    assert (await send(port, "ci", BODY, headers)).status == 401


async def test_what_is_not_signed_as_it_must_be_is_refused(port: Port) -> None:
    digest = await port.push(tiny_image())
    secrets = {
        scheme: (await make_hook(port.admin, scheme, scheme=scheme))["secret"]
        for scheme in ("standard", "github", "gitlab", "bearer")
    }
    good = standard(secrets["standard"], BODY)
    changed = BODY.replace(b":1", b":2")
    hostile: list[tuple[str, bytes, Mapping[str, str], str]] = [
        ("standard", BODY, {}, "not signed"),
        ("standard", changed, good, "not signed"),
        ("standard", BODY, standard(secrets["github"], BODY), "not signed"),
        ("standard", BODY, standard(secrets["standard"], BODY, ago=301), "seconds ago"),
        ("standard", BODY, standard(secrets["standard"], BODY, ago=-400), "seconds ago"),
        ("standard", BODY, good | {"webhook-id": "m9"}, "not signed"),
        ("standard", BODY, good | {"webhook-timestamp": "nan"}, "not signed"),
        ("standard", BODY, good | {"webhook-signature": "v1,\u00e4 v1 ,, v2,x"}, "not signed"),
        ("github", BODY, {}, "not signed"),
        ("github", changed, {"X-Hub-Signature-256": github(secrets["github"], BODY)}, "not signed"),
        ("github", BODY, {"X-Hub-Signature-256": github(secrets["gitlab"], BODY)}, "not signed"),
        ("gitlab", BODY, {"X-Gitlab-Token": "word"}, "not signed"),
        ("bearer", BODY, {"Authorization": f"Bearer {secrets['gitlab']}"}, "not signed"),
        ("nowhere", BODY, good, "not signed"),
        ("nowhere", BODY, {}, "not signed"),
        ("no%ffwhere", BODY, good, "not signed"),
    ]
    told = set()
    for name, body, headers, why in hostile:
        answer = await send(port, name, body, headers)
        assert (answer.status, why in answer.json["detail"]) == (401, True), (name, headers, answer.json)
        told.add(re.sub("signed -?[0-9]+ seconds", "signed N seconds", answer.json["detail"]))
    # But for whoever signed it the words are the same, also where there is no such hook.
    assert len(told) == 2
    # As no library sends it: what is no text at all.
    status = await send_raw(port, "standard", good | {"webhook-id": "\xff"})
    assert status == await send_raw(port, "github", {"X-Hub-Signature-256": "\xff"}) == 401
    assert len(await port.trials(digest)) == 1  # that of the push
    right = {
        "standard": good,
        "github": {"X-Hub-Signature-256": github(secrets["github"], BODY)},
        "gitlab": {"X-Gitlab-Token": secrets["gitlab"]},
        "bearer": {"Authorization": f"Bearer {secrets['bearer']}"},
    }
    for scheme, headers in right.items():
        first = await send(port, scheme, BODY, headers)
        again = await send(port, scheme, BODY, headers)
        assert (first.status, first.json["repeated"], again.json["repeated"]) == (202, False, True), scheme
        assert first.json["trials"] == again.json["trials"]
    assert len(await port.trials(digest)) == 5


async def test_for_a_day_two_secrets_are_taken_unless_one_was_stolen(port: Port) -> None:
    await port.push(tiny_image())
    old = {
        scheme: (await make_hook(port.admin, scheme, scheme=scheme))["secret"]
        for scheme in ("standard", "github", "gitlab", "bearer")
    }

    async def status(scheme: str, secret: str) -> int:
        headers = {
            "standard": standard(secret, BODY, message_id=secret),
            "github": {"X-Hub-Signature-256": github(secret, BODY)},
            "gitlab": {"X-Gitlab-Token": secret},
            "bearer": {"Authorization": f"Bearer {secret}"},
        }
        return (await send(port, scheme, BODY, headers[scheme])).status

    async def rotate(scheme: str, *, at_once: bool) -> Any:
        return await api(port.admin, "POST", f"/hooks/{scheme}/rotate", json={"at_once": at_once})

    for scheme, first in old.items():
        second = await rotate(scheme, at_once=False)
        shown = await api(port.admin, "GET", f"/hooks/{scheme}")
        assert shown["old_secret_until"] == second["old_secret_until"] is not None
        assert [await status(scheme, each) for each in (first, second["secret"])] == [202, 202], scheme
        # Of three only the last two.
        third = await rotate(scheme, at_once=False)
        taken = [await status(scheme, each) for each in (first, second["secret"], third["secret"])]
        assert taken == [401, 202, 202], scheme
    async with port.database.write() as connection:
        await connection.execute(update(hooks).values(old_secret_until=db_time()))
    assert await status("standard", second["secret"]) == 401
    fourth = await rotate("bearer", at_once=True)
    assert fourth["old_secret_until"] is None
    assert [await status("bearer", each) for each in (third["secret"], fourth["secret"])] == [401, 202]


async def test_what_is_refused_is_in_the_trail_in_sums_and_no_name_that_nobody_has(port: Port) -> None:
    await port.push(tiny_image())
    hook = await make_hook(port.admin, scheme="gitlab")
    headers = {"X-Gitlab-Token": hook["secret"], "User-Agent": "sender/1"}
    for _ in range(3):
        assert (await send(port, "ci", BODY, {"X-Gitlab-Token": "word"})).status == 401
    assert (await send(port, "pass-word", BODY, headers)).status == 401
    assert (await send(port, "ci", b'{"image": "team/app:2"}', headers)).status == 404
    assert (await send(port, "ci", BODY, headers)).status == 202
    assert port.registry.services is not None
    await port.registry.services.refusals.flush(port.database, everything=True)
    found = await api(port.admin, "GET", "/audit", params={"action": "hook.refused"})
    rows = {(each["target"], each["repository"], each["data"]["count"]): each for each in found["items"]}
    assert set(rows) == {("ci", REPOSITORY, 3), (None, None, 1), ("ci", REPOSITORY, 1)}
    one = rows["ci", REPOSITORY, 1]
    assert (one["decision"], one["client"]) == ("refused", "sender/1")
    assert "no image 2" in one["rule"]
    assert "not signed" in rows["ci", REPOSITORY, 3]["rule"]
    assert "word" not in json.dumps(found)


async def send_raw(port: Port, name: str, headers: Mapping[str, str]) -> int:
    """Send a message with these headers, each character a byte; the status."""
    url = URL(port.registry.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = [f"{header}: {value}" for header, value in headers.items()]
    head = [f"POST /hooks/{name} HTTP/1.1", "Host: r", "Connection: close", f"Content-Length: {len(BODY)}"]
    writer.write("\r\n".join([*head, *lines, "", ""]).encode("latin-1") + BODY)
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


def github(secret: str, body: bytes) -> str:
    """As GitHub signs."""
    return "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()


async def test_messages_are_mapped_and_what_does_not_fit_changes_nothing(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await port.push(tiny_image())
    await port.push(tiny_image(), repository="other/app")
    mapping = {"repository": "/repo/name", "tag": "/push/0/tag~1name", "spec": "/spec"}
    hook = await make_hook(port.admin, mapping=mapping, scheme="gitlab")
    headers = {"X-Gitlab-Token": hook["secret"]}

    async def sent(body: object) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await send(port, "ci", raw, headers)

    def message(name: str = REPOSITORY, tag: object = "1", spec: object = "version: 1\n") -> object:
        return {"repo": {"name": name}, "push": [{"tag/name": tag}], "spec": spec}

    bad: list[tuple[object, int, str]] = [
        (b"{", 400, "cannot be read"),
        (b'{"a": 1, "a": 2}', 400, "cannot be read"),
        ({"push": []}, 400, "nothing at /repo/name"),
        (message(tag=5), 400, "is no text: 5"),
        (message(tag="-"), 400, "names no image"),
        (message(name="../x"), 400, "names no image"),
        (message(spec=[1]), 400, "no run spec"),
        (message(spec="a: &a [*a, *a]"), 400, ""),
        (message(spec={"commands": ["x"]}), 400, "commands"),
        (message(name="other/app"), 403, "other/app is not in it"),
        (message(tag="2"), 404, "no image 2"),
    ]
    for body, status, why in bad:
        answer = await sent(body)
        assert (answer.status, why in answer.json["detail"]) == (status, True), (body, answer.json)
    assert (await sent(b" " * (receiving.BODY_MAX_BYTES + 1))).status == 413
    assert len(await port.trials(digest)) == 1
    taken = await sent(message())
    assert taken.status == 202
    monkeypatch.setattr(receiving, "A_MINUTE", 1)
    full = await sent(message(spec=None) | {"more": 1})  # type: ignore[operator]
    assert (full.status, full.headers["Retry-After"]) == (429, "60")
    assert (await sent(message())).json["repeated"] is True


async def test_notifications_of_dockers_registry(port: Port) -> None:
    digest = await port.push(tiny_image())
    hook = await api(
        port.admin,
        "POST",
        "/hooks",
        status=201,
        json={"name": "docker", "namespace": "team", "mapping": "docker", "scheme": "bearer"},
    )
    pushed = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "repository": REPOSITORY, "tag": "1"}
    events = [
        {"action": "pull", "target": pushed},
        {"action": "push", "target": {"mediaType": "application/octet-stream", "repository": REPOSITORY}},
        {"action": "push", "target": {**pushed, "digest": digest}},
        {"action": "push", "target": {**pushed, "digest": digest}},
    ]
    headers = {"Authorization": f"Bearer {hook['secret']}"}
    taken = await send(port, "docker", json.dumps({"events": events}).encode(), headers)
    assert (taken.status, len(taken.json["trials"])) == (202, 1)
    nothing = await send(port, "docker", json.dumps({"events": events[:2]}).encode(), headers)
    assert (nothing.status, nothing.json["trials"]) == (202, [])
    assert (await send(port, "docker", b'{"events": 1}', headers)).status == 400


async def test_who_makes_hooks(port: Port) -> None:
    await port.push(tiny_image())
    signed = {}
    for name, role in (("mia", "maintainer"), ("wim", "writer")):
        password = await make_user(port.admin, name)
        await give_role(port.admin, "team/", f"user:{name}", role)
        signed[name] = await port.stack.enter_async_context(port.registry.client(password, user=name))
    mia, wim = signed["mia"], signed["wim"]
    await make_hook(mia)
    body = {"name": "ci", "repository": REPOSITORY}
    await api(wim, "POST", "/hooks", status=403, json=body)
    await api(wim, "GET", "/hooks/ci", status=404)
    await api(wim, "DELETE", "/hooks/ci", status=404)
    await api(mia, "POST", "/hooks", status=403, json={"name": "all"})
    await api(mia, "POST", "/hooks", status=409, json=body)
    for wrong in (
        {"name": "C I"},
        {"mapping": {"imag": "/a"}},
        {"mapping": {"image": "a"}},
        {"mapping": {"image": "/a", "tag": "/b"}},
        {"mapping": "harbor"},
        {"scheme": "none"},
        {"call_back": "http://169.254.169.254/"},
        {"repository": None, "namespace": "team", "mapping": {"tag": "/tag"}},
    ):
        await api(mia, "POST", "/hooks", status=400, json={**body, "name": "other", **wrong})
    assert [each["name"] for each in (await api(mia, "GET", f"/hooks?repository={REPOSITORY}"))["items"]] == [
        "ci"
    ]
    await api(mia, "GET", "/hooks", status=403)
    await api(mia, "DELETE", "/hooks/ci", status=204)


async def test_the_sender_of_the_page(port: Port) -> None:
    digest = await port.push(tiny_image())
    hook = await make_hook(port.admin)
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "hooks.md").read_text(), re.DOTALL)
    command = [
        sys.executable,
        "-c",
        program,
        f"{port.registry.url}/hooks/ci",
        hook["secret"],
        f"{REPOSITORY}:1",
    ]
    told = []
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        printed, _ = await process.communicate()
        told.append(json.loads(printed))
    assert [each["repeated"] for each in told] == [False, True]
    assert told[0]["trials"] == told[1]["trials"]
    assert len(await port.trials(digest)) == 2


async def test_a_message_beyond_a_cap_is_taken_when_there_is_room(port: Port) -> None:
    digest = await port.push(tiny_image())
    hook = await make_hook(port.admin)
    await api(port.admin, "PATCH", "/namespaces/team", json={"trial_queue_max": 1})
    headers = standard(hook["secret"], BODY)
    refused = await send(port, "ci", BODY, headers)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "60")
    assert "the namespace team has as many images waiting to be tried" in refused.body.decode()
    worker = await port.worker("one")
    assert (await worker.report(await worker.claim())).status == 204
    taken = await send(port, "ci", BODY, headers)
    assert (taken.status, taken.json["repeated"], len(await port.trials(digest))) == (202, False, 2)
