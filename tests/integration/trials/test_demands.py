"""What run specs demand of isolation: only a worker that has it is given the job, and only a run that had it
passes; on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import update

from registry.contract import PROTOCOL_VERSION
from registry.db.accounts import workers
from registry.db.types import db_time
from tests.kit.access import ask
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, tiny_image

POLICY = f"/api/v1/repositories/{REPOSITORY.replace('/', '%2F')}"
SPEC = "version: 1\nrequire: [seccomp, AppArmor]\n"
HAVING = ["AppArmor", "cgroup limits", "seccomp"]


async def claim(worker: ScriptedWorker, mechanisms: list[str] | None) -> Any:
    message: dict[str, Any] = {"protocol": PROTOCOL_VERSION, "platforms": ["linux/amd64"], "wait_seconds": 0}
    if mechanisms is not None:
        message["mechanisms"] = mechanisms
    answer = await worker.post("claim", message)
    assert answer.status == 200, answer.body
    return answer.json["job"]


async def test_a_demand_is_met_or_waited_for(port: Port) -> None:
    await port.push(tiny_image())
    one = await port.worker("one")
    assert await one.report(await claim(one, None)) is not None
    changed = await ask(port.admin, "PATCH", POLICY, json={"run_spec": SPEC})
    assert changed.json["run_spec"] == {"version": 1, "require": ["AppArmor", "seccomp"]}
    digest = await port.push(tiny_image())

    # A worker that does not say, as older ones, and one that lacks something, get nothing.
    assert await claim(one, None) is None
    assert await claim(one, ["seccomp"]) is None
    (trial,) = await port.trials(digest)
    assert trial["reason"] == "waits for a worker that has AppArmor: none of 1 has"
    assert (trial["state"], trial["parts"][0]["reason"]) == ("queued", trial["reason"])
    two = await port.worker("two")
    assert await claim(two, ["AppArmor"]) is None
    (trial,) = await port.trials(digest)
    assert trial["reason"] == "waits for a worker that has AppArmor, seccomp: none of 2 has all of them"
    shown = (await ask(port.admin, "GET", "/api/v1/workers/two")).json
    assert shown["mechanisms"] == ["AppArmor"]

    # Others get the jobs behind it meanwhile.
    behind = await port.push(tiny_image(), repository="team/other")
    job = await claim(one, ["seccomp"])
    assert job["digest"] == behind
    await one.report(job)

    # One comes that has it: nothing to wait for any more.
    assert await claim(two, HAVING) is not None
    (trial,) = await port.trials(digest)
    assert (trial["state"], trial["reason"]) == ("running", "")
    digest = await port.push(tiny_image(), tag="2")
    assert (await port.trials(digest))[0]["reason"] == ""

    # Both are gone.
    async with port.database.write() as connection:
        await connection.execute(update(workers).values(last_seen_at=db_time(timedelta(hours=-1))))
    reason = (await port.trials(digest))[0]["reason"]
    assert reason == "waits for a worker that has AppArmor, seccomp: no worker asks for jobs"


async def test_a_run_without_what_was_demanded_never_passes(port: Port) -> None:
    await port.push(tiny_image())
    await ask(port.admin, "PATCH", POLICY, json={"run_spec": SPEC})
    worker = await port.worker("one")
    had = [{"name": "seccomp", "applied": True}, {"name": "AppArmor", "applied": True}]
    lacked = [had[0], {"name": "AppArmor", "applied": False, "detail": "loaded in the mode complain"}]
    for mechanisms, verdict, reason in (
        (had, "pass", "the command exits 0"),
        (
            lacked,
            "error",
            "isolation-missing: the run spec demands what the run did not have: AppArmor (loaded",
        ),
        ([], "error", "isolation-missing: the run spec demands what the run did not have: AppArmor, seccomp"),
    ):
        job = None
        while job is None or job["spec"] is None:
            await port.push(tiny_image())
            job = await claim(worker, HAVING)
        assert job["spec"]["require"] == ["AppArmor", "seccomp"]
        assert (await worker.report(job, mechanisms=mechanisms)).status == 204
        trial = (await port.trials(job["digest"]))[0]
        assert (trial["verdict"], trial["reason"][: len(reason)]) == (verdict, reason)

    # What is no mechanism, or no list of them.
    for spec, said in (
        (
            "version: 1\nrequire: [fairy dust]\n",
            "'fairy dust' is no mechanism that can be demanded; known are",
        ),
        ("version: 1\nrequire: []\n", "require: "),
    ):
        answer = await ask(port.admin, "PATCH", POLICY, json={"run_spec": spec})
        assert (answer.status, said in answer.json["detail"]) == (400, True), answer.body
    for bad in (["x\n"], ["x" * 65], ["a"] * 65, "seccomp"):
        message = {"protocol": PROTOCOL_VERSION, "platforms": ["linux/amd64"], "mechanisms": bad}
        assert (await worker.post("claim", message)).status == 400
