"""What becomes of an image that no worker's disk has room for: it waits, and everybody is told why; where no
worker can ever hold it, that is the verdict. On both databases."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from sqlalchemy import text, update

from registry.auth.bindings import Binding
from registry.contract.limits import UNPACKED_FACTOR
from registry.db.trials import parts
from registry.db.types import db_time
from registry.trials.backlog import read_backlog
from registry.trials.room import LARGER_WAIT_SECONDS, find_shortages
from tests.kit.access import ask
from tests.kit.images import file, make_image, make_layer
from tests.kit.trials import REPOSITORY, Port, make_error, tiny_image

LAYER = make_layer(file("weights", random.Random(1).randbytes(30_000)))
NEEDED = UNPACKED_FACTOR * len(LAYER.blob)
SHOWN = f"{NEEDED / 1024:.1f} KiB"


async def push_large(port: Port, tag: str, **more: Any) -> str:
    return await port.push(make_image(LAYER, config={"Cmd": [f"/{tag}"]}), tag=tag, **more)


async def pass_time(port: Port) -> None:
    async with port.database.write() as connection:
        long_ago = db_time(timedelta(seconds=-LARGER_WAIT_SECONDS - 1))
        await connection.execute(update(parts).values(run_after=long_ago))


async def test_an_image_waits_for_room_and_everybody_is_told(port: Port) -> None:
    digest = await push_large(port, "1")
    one = await port.worker("one")
    assert (await port.trials(digest))[0]["reason"] == "", "nobody has said anything of a disk"

    assert await one.claim(disk_bytes=NEEDED - 1, disk_most_bytes=10 * NEEDED) is None
    (trial,) = await port.trials(digest)
    waits = f"waits for room on a worker's disk: the image needs about {SHOWN}; "
    assert trial["reason"] == trial["parts"][0]["reason"] == f"{waits}one has {SHOWN}"
    assert (trial["state"], trial["verdict"]) == ("queued", None)
    shown = (await ask(port.admin, "GET", "/api/v1/workers/one")).json
    assert (shown["disk_bytes"], shown["disk_most_bytes"]) == (NEEDED - 1, 10 * NEEDED)
    assert (shown["waiting_parts"], shown["needed_bytes"]) == (1, NEEDED)
    (listed,) = (await ask(port.admin, "GET", "/api/v1/workers")).json["items"]
    assert listed == shown
    changed = await ask(port.admin, "PATCH", "/api/v1/workers/one", json={"slots": 3})
    assert changed.json == shown | {"slots": 3}
    assert (await read_backlog(port.database)).without_room == 1

    # However long it waits: no worker without the room gets it, one without any no more than the others.
    await pass_time(port)
    assert await one.claim(disk_bytes=NEEDED - 1, disk_most_bytes=10 * NEEDED) is None
    assert await one.claim(disk_bytes=0, disk_most_bytes=10 * NEEDED) is None
    two, three, four = [await port.worker(name) for name in ("two", "three", "four")]
    for number, worker in enumerate((two, three, four)):
        assert await worker.claim(disk_bytes=number * 1024, disk_most_bytes=NEEDED) is None
    (trial,) = await port.trials(digest)
    assert trial["reason"] == f"{waits}four has 2.0 KiB, three has 1.0 KiB, one has 0 B, 1 more have less"

    # Small ones are tried there meanwhile.
    small = await port.push(tiny_image(), tag="small")
    job = await four.claim(disk_bytes=2048, disk_most_bytes=NEEDED)
    assert job["digest"] == small
    await four.report(job)

    # Room comes, and nothing is told any more.
    job = await two.claim(disk_bytes=NEEDED, disk_most_bytes=NEEDED)
    assert job["digest"] == digest
    assert (await port.trials(digest))[0]["reason"] == ""
    assert (await read_backlog(port.database)).without_room == 0
    again = await push_large(port, "2")
    assert (await port.trials(again))[0]["reason"] == "", "two has room, and will ask again"
    shown = (await ask(port.admin, "GET", "/api/v1/workers/one")).json
    assert (shown["waiting_parts"], shown["needed_bytes"]) == (0, None)


async def test_what_no_worker_can_ever_hold_ends_and_says_so(port: Port) -> None:
    digest = await push_large(port, "1")
    one, old = await port.worker("one"), await port.worker("old")
    can = {"disk_bytes": 0, "disk_most_bytes": NEEDED - 1}
    assert await one.claim(**can) is None, "a larger worker may come"
    said = f"no worker is large enough: the image needs about {SHOWN} of disk, and one, the largest, holds"
    assert (await port.trials(digest))[0]["reason"].startswith(said)
    # One that says nothing, as older ones, may be large enough; also when it is away for a moment.
    other = await push_large(port, "2", repository="team/other")
    assert (await old.claim())["digest"] == digest
    await pass_time(port)
    assert await one.claim(**can) is None
    async with port.database.write() as connection:
        query = text(
            "UPDATE workers SET last_seen_at = last_seen_at - 3601000000 WHERE disk_most_bytes IS NULL"
        )
        await connection.execute(query)
    job = await one.claim(**can)
    assert job["digest"] == other
    assert (await one.report(job, **make_error("worker-disk"))).status == 204
    (trial,) = (await ask(port.admin, "GET", f"/api/v1/trials?image=team/other&digest={other}")).json
    assert (trial["verdict"], trial["reason"]) == ("error", "worker-disk: it was worker-disk")


async def test_a_large_worker_that_could_not_try_it_is_not_waited_for(port: Port) -> None:
    names = ("able", "arm", "bound", "unlabelled", "drained")
    able, arm, bound, unlabelled, drained = [await port.worker(name) for name in names]
    for name, binding in (("able", {"labels": ["gpu"]}), ("bound", {"namespaces": ["other"]})):
        assert (await ask(port.admin, "PATCH", f"/api/v1/workers/{name}", json=binding)).status == 200
    large = {"disk_bytes": 2**40, "disk_most_bytes": 2**40}
    assert await arm.claim(platforms=("linux/arm64",), **large) is None
    for worker in (bound, unlabelled, drained):
        assert await worker.claim(**large) is None
    assert (await ask(port.admin, "PUT", "/api/v1/workers/drained/drain")).status == 204
    digest = await push_large(port, "1")
    path = f"/api/v1/repositories/{REPOSITORY.replace('/', '%2F')}"
    assert (await ask(port.admin, "PATCH", path, json={"worker_label": "gpu"})).status == 200
    can = {"disk_bytes": NEEDED - 1, "disk_most_bytes": NEEDED - 1}
    assert await able.claim(**can) is None, "a larger worker may come"
    await pass_time(port)
    # What it has room for goes before.
    small = await port.push(tiny_image(), tag="small")
    assert (await able.claim(**can))["digest"] == small
    assert (await able.claim(**can))["digest"] == digest


async def test_only_workers_that_could_try_it_are_named(port: Port) -> None:
    able, arm, bound, drained = [await port.worker(name) for name in ("able", "arm", "bound", "drained")]
    binding = {"namespaces": ["other"]}
    assert (await ask(port.admin, "PATCH", "/api/v1/workers/bound", json=binding)).status == 200
    large = {"disk_bytes": 2**40, "disk_most_bytes": 2**40}
    assert await arm.claim(platforms=("linux/arm64",), **large) is None
    assert await bound.claim(**large) is None
    assert await drained.claim(**large) is None
    assert (await ask(port.admin, "PUT", "/api/v1/workers/drained/drain")).status == 204
    digest = await push_large(port, "1")
    assert await able.claim(disk_bytes=1, disk_most_bytes=2**40) is None
    reason = (await port.trials(digest))[0]["reason"]
    assert reason.endswith("; able has 1 B"), reason
    async with port.database.read() as connection:
        (shortage,) = await find_shortages(connection)
        assert await find_shortages(connection, [shortage.part]) == [shortage]
        assert await find_shortages(connection, ["another"]) == []
    assert [disk.worker for disk in shortage.disks] == ["able"]


async def test_a_binding_opens_what_the_queue_opens(port: Port) -> None:
    names = ["t_am/app", "team-a/app", "team/app", "team/sub/app"]
    worker = await port.worker("one")
    for namespaces, opened in (
        (None, names),
        (("*",), names),
        (("team",), ["team/app", "team/sub/app"]),
        (("team/sub",), ["team/sub/app"]),
        (("team-*", "t_am"), ["t_am/app", "team-a/app"]),
        (("team/*",), ["team/sub/app"]),
    ):
        binding = Binding(namespaces, ("gpu",), None)
        assert [name for name in names if binding.opens(name, None)] == opened
        assert [name for name in names if binding.opens(name, "gpu")] == opened
        assert not any(binding.opens(name, "tpu") for name in names)
        change = {"namespaces": None if namespaces is None else list(namespaces)}
        assert (await ask(port.admin, "PATCH", "/api/v1/workers/one", json=change)).status == 200
        for name in names:
            await port.push(tiny_image(), repository=name)
        got = []
        while (job := await worker.claim()) is not None:
            got.append(job["repository"])
            await worker.report(job)
        assert sorted(got) == opened
        change = {"namespaces": None}
        assert (await ask(port.admin, "PATCH", "/api/v1/workers/one", json=change)).status == 200
        while (job := await worker.claim()) is not None:
            await worker.report(job)
