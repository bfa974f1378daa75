"""Trials over ``/api/v1``: shown, waited for, started again."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from sqlalchemy import update

from registry.contract.job import Job
from registry.db.trials import parts
from tests.kit.access import ask
from tests.kit.plans import Statement, sent
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image, tiny_index

POLICY = f"/api/v1/repositories/{REPOSITORY.replace('/', '%2F')}"


async def finish(port: Port, *, met: bool = True, name: str = "one", **members: Any) -> Any:
    worker = await port.worker(name)
    job = await worker.claim()
    assert (await worker.report(job, met=met, exit_code=0 if met else 3, **members)).status == 204
    return job


async def show(port: Port, client: Any = None, **query: str) -> Any:
    answer = await ask(client or port.admin, "GET", "/api/v1/trials", params=query)
    assert answer.status == 200, answer.body
    return answer.json


async def test_the_shape_that_scripts_rely_on(port: Port) -> None:
    digest = await port.push(tiny_image())
    await finish(port, met=False, log="one\ntwo\n")
    (trial,) = await show(port, image=f"{REPOSITORY}:1")
    assert {name: trial[name] for name in ("image", "digest", "state", "verdict")} == {
        "image": REPOSITORY,
        "digest": digest,
        "state": "done",
        "verdict": "fail",
    }
    (run,) = trial["runs"]
    assert {name: run[name] for name in ("name", "exit_code", "reason", "log")} == {
        "name": "smoke",
        "exit_code": 3,
        "reason": "exited",
        "log": "one\ntwo\n",
    }
    answer = await ask(port.admin, "GET", f"/api/v1/trials/{trial['id']}")
    assert answer.json == trial
    log = await ask(port.admin, "GET", f"/api/v1/trials/{trial['id']}/log")
    assert (log.body, log.headers["Content-Type"]) == (b"one\ntwo\n", "text/plain; charset=utf-8")


async def test_readers_read_verdict_and_reason_but_no_log(port: Port) -> None:
    await port.push(tiny_image())
    await finish(port, met=False, log="x" * 20_000 + "a secret")
    with sent() as statements:
        (trial,) = await show(port, port.reader, image=REPOSITORY, tag="1")
        assert (await show(port, port.reader))[0]["id"] == trial["id"]
        for path in ("", "/export", "/log"):
            await ask(port.reader, "GET", f"/api/v1/trials/{trial['id']}{path}")
    read = [one.text for one in statements if "FROM runs" in one.text]
    assert len(read) == 5
    assert not any(re.search(r"runs\.log\b", text) for text in read), "no log is read for who may not"
    assert trial["verdict"] == "fail"
    assert trial["runs"][0]["exit_code"] == 3
    assert trial["runs"][0]["log"] is None
    assert "a secret" not in json.dumps(trial)
    answer = await ask(port.reader, "GET", f"/api/v1/trials/{trial['id']}/log")
    assert answer.status == 403
    export = f"/api/v1/trials/{trial['id']}/export"
    for client, logs in ((port.reader, 0), (port.admin, 1)):
        text = (await ask(client, "GET", export, headers={"Accept": "application/xml"})).body
        assert (text.count(b"<system-out>"), text.count(b"a secret")) == (logs, logs)
        assert len(text) < 20_000
    answer = await ask(
        port.reader, "GET", export, params={"format": "sarif"}, headers={"Accept": "text/markdown"}
    )
    assert answer.headers["Content-Type"] == "application/sarif+json"
    answer = await ask(port.reader, "GET", export, headers={"Accept": "text/html, text/markdown;q=0.9"})
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    answer = await ask(port.reader, "GET", export)
    assert answer.headers["Content-Type"] == "application/xml; charset=utf-8"
    for options in ({"params": {"format": "pdf"}}, {"headers": {"Accept": "text/html"}}):
        assert (await ask(port.reader, "GET", export, **options)).status == 400
    assert "a secret" not in answer.body.decode()


async def test_what_is_not_visible_looks_like_what_is_not_there(port: Port) -> None:
    digest = await port.push(tiny_image())
    ((trial,)) = await show(port, image=REPOSITORY)
    body = {"name": "other", "scopes": ["repository:other/*:pull"]}
    token = (await ask(port.admin, "POST", "/api/v1/tokens", json=body)).json["token"]
    async with port.registry.client(token) as other, port.registry.client(anonymous=True) as nobody:
        for client in (other, nobody):
            assert await show(port, client) == []
            there = await ask(client, "GET", f"/api/v1/trials/{trial['id']}")
            gone = await ask(client, "GET", f"/api/v1/trials/{trial['id'][:-1]}x")
            assert there.status == gone.status == 404
            assert there.json["detail"] == gone.json["detail"]
            for name in (REPOSITORY, "team/none"):
                for path in ("/api/v1/trials", "/api/v1/gate"):
                    answer = await ask(client, "GET", path, params={"image": name, "digest": digest})
                    assert answer.status == (401 if client is nobody else 403), path
                    assert ("WWW-Authenticate" in answer.headers) == (client is nobody)


async def test_a_wait_ends_with_the_verdict(port: Port) -> None:
    digest = await port.push(tiny_image())
    waiting = asyncio.create_task(show(port, image=REPOSITORY, digest=digest, wait="30"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await finish(port)
    assert (await waiting)[0]["verdict"] == "pass"


async def test_a_wait_ends_with_its_time(port: Port) -> None:
    await port.push(tiny_image())
    (trial,) = await show(port, image=REPOSITORY, tag="1", wait="0.3")
    assert (trial["state"], trial["verdict"]) == ("queued", None)


async def test_queries_that_make_no_sense_are_refused(port: Port) -> None:
    await port.push(tiny_image())
    queries = [
        {"wait": "1"},
        {"tag": "1"},
        {"image": REPOSITORY, "wait": "1"},
        {"image": REPOSITORY, "tag": "1", "wait": "61"},
        {"image": REPOSITORY, "tag": "1", "wait": "-1"},
        {"image": REPOSITORY, "tag": "1", "wait": "nan"},
        {"image": REPOSITORY, "tag": "1", "wait": "soon"},
        {"image": REPOSITORY, "tag": "1", "digest": f"sha256:{'0' * 64}"},
        {"image": f"{REPOSITORY}:1", "tag": "1"},
        {"image": "../etc", "tag": "1"},
        {"image": REPOSITORY, "tag": "not a tag"},
        {"image": REPOSITORY, "digest": "sha256:short"},
        {"image": REPOSITORY, "surprise": "1"},
    ]
    for query in queries:
        answer = await ask(port.admin, "GET", "/api/v1/trials", params=query)
        assert answer.status == 400, query


async def test_an_unknown_image_is_not_found(port: Port) -> None:
    await port.push(tiny_image())
    for query in ({"image": REPOSITORY, "tag": "9"}, {"image": "team/none", "tag": "1"}):
        assert (await ask(port.admin, "GET", "/api/v1/trials", params=query)).status == 404


async def test_a_trial_started_again_asks_anew(port: Port) -> None:
    digest = await port.push(tiny_image())
    await finish(port, met=False)
    answer = await ask(port.admin, "POST", "/api/v1/trials", json={"image": f"{REPOSITORY}:1"})
    assert answer.status == 201
    assert (answer.json["state"], answer.json["cause"], answer.json["runs"]) == ("queued", "request", [])
    assert await port.state(digest) == "pending"
    await finish(port, name="two")
    assert await port.state(digest) == "pass"
    newest, oldest = await port.trials(digest)
    assert [(one["cause"], one["verdict"]) for one in (newest, oldest)] == [
        ("request", "pass"),
        ("push", "fail"),
    ]
    assert len(newest["runs"]) == 1
    # What the older verdict was made of is no more; the newer run is not shown as if it were.
    assert oldest["runs"] == []


async def test_an_admitted_image_stays_so_while_it_is_tried_again(port: Port) -> None:
    digest = await port.push(tiny_image())
    await finish(port)
    await ask(port.admin, "POST", "/api/v1/trials", json={"image": f"{REPOSITORY}@{digest}"})
    assert (await port.pull(digest)).status == 200
    await finish(port, name="two", met=False)
    assert (await port.pull(digest)).status == 403


async def test_a_started_trial_of_an_untried_image(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, trial_on_push=False) as port:
        index, (image,) = tiny_index("linux/amd64")
        digest = await port.push(index)
        assert (
            await ask(port.admin, "POST", "/api/v1/trials", json={"image": f"{REPOSITORY}:1"})
        ).status == 201
        assert [await port.state(one) for one in (digest, image.digest)] == ["pending", "pending"]
        await finish(port)
        assert [await port.state(one) for one in (digest, image.digest)] == ["pass", "pass"]


async def test_a_spec_of_the_request_reaches_the_worker(port: Port) -> None:
    digest = await port.push(tiny_image())
    await finish(port, met=False)
    spec = {"version": 1, "command": ["/app", "-x"], "expect": {"exit": 3, "log": [{"match": "x"}]}}
    body = {"image": f"{REPOSITORY}:1", "spec": spec}
    assert (await ask(port.admin, "POST", "/api/v1/trials", json=body)).status == 201
    job = await finish(port, name="two")
    parsed = Job.model_validate_json(json.dumps(job))
    assert parsed.spec is not None
    assert parsed.spec.command == ("/app", "-x")
    assert parsed.spec.expect.exit == 3
    assert "pull_token" not in repr(parsed)
    # Nobody else has said what this image should do, so the word of who may push it counts.
    assert await port.state(digest) == "pass"


async def test_a_repository_s_own_spec_yields_to_no_other(port: Port) -> None:
    spec = {"version": 1, "expect": {"exit": 0}}
    assert (await ask(port.admin, "POST", "/api/v1/repositories", json={"name": REPOSITORY})).status == 201
    assert (await ask(port.admin, "PATCH", POLICY, json={"run_spec": spec})).status == 200
    digest = await port.push(tiny_image())
    job = await finish(port, met=False)
    assert job["spec"]["expect"]["exit"] == 0
    easy = {"version": 1, "command": ["/bin/true"], "expect": {"exit": 0}}
    body = {"image": f"{REPOSITORY}:1", "spec": easy}
    assert (await ask(port.admin, "POST", "/api/v1/trials", json=body)).status == 201
    await finish(port, name="two")
    newest, _ = await port.trials(digest)
    assert newest["verdict"] == "pass"
    assert await port.state(digest) == "fail"


async def test_a_change_of_policy_asks_again_about_what_is_pending(port: Port) -> None:
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    before = await worker.claim()
    spec = {"version": 1, "expect": {"exit": 7}}
    assert (await ask(port.admin, "PATCH", POLICY, json={"run_spec": spec})).status == 200
    await worker.report(before)
    assert await port.state(digest) == "pending"
    job = await finish(port, name="two", met=False)
    assert job["spec"]["expect"]["exit"] == 7
    assert await port.state(digest) == "fail"


async def test_requests_for_a_trial_that_are_wrong(port: Port) -> None:
    digest = await port.push(tiny_image())
    bodies: list[tuple[dict[str, Any], int]] = [
        ({}, 400),
        ({"image": "team/app", "surprise": 1}, 400),
        ({"image": "team/app:1", "spec": {"version": 2}}, 400),
        ({"image": "team/app:1", "spec": "version: 1\nservices: {}"}, 400),
        ({"image": "team/app:9"}, 404),
        ({"image": "team/none:1"}, 404),
    ]
    for body, status in bodies:
        assert (await ask(port.admin, "POST", "/api/v1/trials", json=body)).status == status, body
    assert len(await port.trials(digest)) == 1


async def test_trials_are_started_by_those_who_may_push(port: Port) -> None:
    await port.push(tiny_image())
    answer = await ask(port.reader, "POST", "/api/v1/trials", json={"image": f"{REPOSITORY}:1"})
    assert answer.status == 403
    async with port.registry.client(anonymous=True) as nobody:
        answer = await ask(nobody, "POST", "/api/v1/trials", json={"image": f"{REPOSITORY}:1"})
        assert answer.status == 401


async def test_what_nobody_can_run_is_not_started(port: Port) -> None:
    index, _ = tiny_index()
    await port.push(index)
    answer = await ask(port.admin, "POST", "/api/v1/trials", json={"image": f"{REPOSITORY}:1"})
    assert answer.status == 409


async def test_long_logs_are_whole_in_one_trial_and_cut_in_lists(port: Port) -> None:
    await port.push(tiny_image())
    log = "".join(f"line {number}\n" for number in range(20_000))
    await finish(port, log=log)
    (trial,) = await show(port, image=REPOSITORY, tag="1")
    (run,) = trial["runs"]
    assert run["log_truncated"]
    assert log.endswith(run["log"])
    assert len(run["log"]) == 16 * 1024
    whole = (await ask(port.admin, "GET", f"/api/v1/trials/{trial['id']}")).json["runs"][0]
    assert (whole["log"], whole["log_truncated"]) == (log, False)


async def test_the_gate_explains_itself(port: Port) -> None:
    digest = await port.push(tiny_image())
    await finish(port, met=False)
    query = {"image": f"{REPOSITORY}:1"}
    told = (await ask(port.reader, "GET", "/api/v1/gate", params=query)).json
    assert (told["digest"], told["gate"], told["state"]) == (digest, "enforce", "fail")
    assert (told["decision"], told["may_push"]) == ("refuse", False)
    assert told["explain"] == "the gate enforces and the state is fail"
    assert told["sentence"].startswith(f"{REPOSITORY}@{digest} failed its trial")
    told = (await ask(port.admin, "GET", "/api/v1/gate", params=query)).json
    assert (told["decision"], told["may_push"]) == ("admit", True)


async def test_many_trials_are_listed_with_as_many_queries_as_one(port: Port) -> None:
    def of_runs(statements: list[Statement]) -> int:
        return sum("runs" in one.text or "parts" in one.text for one in statements)

    digest = await port.push(tiny_image())
    await finish(port, log="first\n")
    await show(port)
    with sent() as for_one:
        (one,) = await show(port)
    for number in range(4):
        await port.push(tiny_index("linux/amd64", "linux/s390x")[0], tag=str(number))
    await finish(port, log="second\n")
    with sent() as for_many:
        many = await show(port)
    assert len(many) > 8
    assert of_runs(for_many) == of_runs(for_one) == 2
    assert many[-1] == one
    assert [run["log"] for run in one["runs"]] == ["first\n"]
    assert sum(len(trial["runs"]) for trial in many) == 3, "one image and the index that lists it"
    assert {len(trial["parts"]) for trial in many} == {1, 2}
    assert digest == one["digest"]


async def test_older_trials_are_on_the_next_page(port: Port) -> None:
    for number in range(5):
        await port.push(tiny_image(), tag=str(number))
    whole = [trial["id"] for trial in await show(port)]
    for image in ("", f"&image={REPOSITORY}"):
        path, seen, pages = f"/api/v1/trials?limit=2{image}", [], 0
        while path:
            async with port.admin.get(path) as answer:
                assert answer.status == 200
                seen += [trial["id"] for trial in await answer.json()]
                path = str(answer.links["next"]["url"].relative()) if "next" in answer.links else ""
            pages += 1
        assert (seen, pages) == (whole, 3)
    for query in ("limit=0", "limit=51", "cursor=x&image=a:b", "cursor=%00", "wait=3&cursor=x"):
        assert (await ask(port.admin, "GET", f"/api/v1/trials?{query}")).status == 400, query
    assert (await ask(port.admin, "GET", "/api/v1/trials?cursor=nothing")).json == []


async def test_a_long_spec_holds_up_nobody(port: Port) -> None:
    steps = "  - a\n" * 10_000
    long = asyncio.create_task(ask(port.admin, "PATCH", POLICY, json={"run_spec": f"command:\n{steps}"}))
    answered = 0
    while not long.done():
        assert (await ask(port.reader, "GET", "/v2/")).status == 200
        answered += 1
    answer = await long
    assert (answer.status, "the run spec is not valid" in answer.body.decode()) == (400, True)
    # Behind a parser on the event loop it is one, or two where the first came before the spec.
    assert answered > 2


async def test_a_stored_spec_that_this_version_does_not_take_is_the_verdict(port: Port) -> None:
    """An earlier one may have stored what is not taken any more; who claims it has no part in that."""
    digest = await port.push(tiny_image())
    stored = json.dumps({"version": 1, "expect": {"log": [{"match": r"\pL{440}"}]}})
    async with port.database.write() as connection:
        await connection.execute(update(parts).values(run_spec=stored))
    worker = await port.worker("one")
    assert await worker.claim() is None
    (trial,) = await port.trials(digest)
    assert (trial["state"], trial["verdict"]) == ("done", "error")
    assert trial["reason"].startswith("spec-invalid: ")
    assert "pattern too large" in trial["reason"]
    other = await port.push(tiny_image())
    assert (await worker.claim())["digest"] == other
