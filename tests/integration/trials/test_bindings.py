"""Workers get only what they are bound to: namespaces, labels, slots; on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.kit.access import api
from tests.kit.trials import Port, tiny_image

WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"namespaces": []}, "namespaces: 0 given"),
    ({"namespaces": ["team/"]}, "'team/' is no namespace"),
    ({"namespaces": ["Team"]}, "'Team' is no namespace"),
    ({"namespaces": ["a%"]}, "'a%' is no namespace"),
    ({"namespaces": ["a"] * 65}, "namespaces: 65 given"),
    ({"labels": ["G P U"]}, "'G P U' is no label"),
    ({"labels": ["a"] * 33}, "labels: 33 given"),
    ({"networks": ["10.0.0.1/8"]}, "is no network"),
    ({"slots": 0}, "a worker has 1 to 64 slots"),
    ({"slots": 65}, "a worker has 1 to 64 slots"),
    ({"slots": "2"}, "slots: "),
    ({"admin": True}, "admin: "),
)
NAMES = ("top", "team/app", "team/sub/app", "team-b/app", "teamx/app", "other/team/app", "o_her/app")


async def bind(port: Port, name: str, *, status: int = 200, **binding: Any) -> Any:
    return await api(port.admin, "PATCH", f"/workers/{name}", status=status, json=binding)


@pytest.mark.parametrize(
    ("namespaces", "names"),
    [
        (None, set(NAMES)),
        (["*"], set(NAMES)),
        (["team"], {"team/app", "team/sub/app"}),
        (["team/sub", "team/none"], {"team/sub/app"}),
        (["team*"], {"team/app", "team/sub/app", "team-b/app", "teamx/app"}),
        (["team-*", "other"], {"team-b/app", "other/team/app"}),
        (["*/team"], {"other/team/app"}),
        (["o_her"], {"o_her/app"}),
        (["nobody"], set()),
    ],
)
async def test_namespaces(port: Port, namespaces: list[str] | None, names: set[str]) -> None:
    for name in NAMES:
        await port.push(tiny_image(), repository=name)
    worker = await port.worker("one")
    assert (await bind(port, "one", namespaces=namespaces))["namespaces"] == namespaces
    claimed = set()
    while (job := await worker.claim()) is not None:
        claimed.add(job["repository"])
    assert claimed == names


async def test_labels(port: Port) -> None:
    gpu = await port.push(tiny_image(), repository="team/gpu")
    await api(port.admin, "PATCH", "/repositories/team%2Fgpu", json={"worker_label": "gpu"})
    plain = await port.push(tiny_image(), repository="team/plain")
    one, two = await port.worker("one"), await port.worker("two")
    await bind(port, "two", labels=["fast", "gpu"], namespaces=["team"])
    assert (await one.claim())["digest"] == plain
    assert await one.claim() is None
    assert (await two.claim())["digest"] == gpu
    shown = await api(port.admin, "GET", "/repositories/team%2Fgpu")
    assert shown["worker_label"] == "gpu"
    again = await port.push(tiny_image(), repository="team/gpu", tag="2")
    assert await one.claim() is None
    await api(port.admin, "PATCH", "/repositories/team%2Fgpu", json={"worker_label": None})
    assert (await one.claim())["digest"] == again


async def test_a_claim_that_waits_learns_of_changes(port: Port) -> None:
    worker = await port.worker("one")
    await bind(port, "one", namespaces=["other"])
    waiting = asyncio.create_task(worker.claim(wait_seconds=60))
    digest = await port.push(tiny_image())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await bind(port, "one", namespaces=["team"])
    assert (await waiting)["digest"] == digest


async def test_what_is_left_out_stays_and_null_unbinds(port: Port) -> None:
    await port.worker("one")
    whole = {
        "namespaces": ["team", "x/*"],
        "labels": ["gpu"],
        "networks": ["10.0.0.0/8", "::1/128"],
        "slots": 4,
    }
    assert whole.items() <= (await bind(port, "one", **whole)).items()
    assert whole.items() <= (await bind(port, "one")).items()
    assert (await bind(port, "one", slots=None))["slots"] is None
    assert (await bind(port, "one", namespaces=None, labels=None, networks=None))["networks"] is None
    shown = await api(port.admin, "GET", "/workers/one")
    free = {"namespaces": None, "labels": [], "networks": None, "slots": None, "leases": 0}
    assert free.items() <= shown.items()
    assert (await api(port.admin, "GET", "/workers"))["items"] == [shown]
    assert (await api(port.admin, "GET", "/workers/none", status=404))["status"] == 404


async def test_a_wrong_binding_is_named_and_changes_nothing(port: Port) -> None:
    await port.worker("one")
    before = await bind(port, "one", namespaces=["team"], labels=["gpu"], slots=2)
    for binding, said in WRONG:
        refused = await bind(port, "one", status=400, **binding)
        assert said in refused["detail"], binding
        assert await api(port.admin, "GET", "/workers/one") == before, binding
    label = {"worker_label": "G P U"}
    refused = await api(port.admin, "POST", "/repositories", status=400, json={"name": "a", **label})
    assert "'G P U' is no label" in refused["detail"]
