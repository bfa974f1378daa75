"""Whose run specs get the value of a secret: those that name it, and have no nearer one."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from registry.trials import secretusers
from registry.trials.secrets import USERS_TOLD
from tests.kit.access import api
from tests.kit.trials import Port

NAMES_IT = {"version": 1, "env": {"A": {"secret": "DB"}}}


async def make(port: Port, name: str, spec: dict[str, Any] | None) -> None:
    await api(port.admin, "POST", "/repositories", status=201, json={"name": name})
    await api(port.admin, "PATCH", f"/repositories/{quote(name, '')}", json={"run_spec": spec})


async def keep(port: Port, name: str, **place: str) -> None:
    body = {"name": name, "value": "the value of it", **place}
    await api(port.admin, "POST", "/secrets", status=201, json=body)


async def users(port: Port, query: str) -> dict[str, tuple[list[str], bool]]:
    listed = (await api(port.admin, "GET", f"/secrets?{query}"))["items"]
    return {one["name"]: (one["used_by"], one["used_by_all"]) for one in listed}


async def test_the_nearest_of_a_name_is_what_counts(port: Port) -> None:
    other = {"name": "other", "env": {"B": {"secret": "DB"}}}
    await make(port, "team/app", NAMES_IT)
    await make(port, "team/case", {"version": 1, "cases": [other]})
    await make(port, "team/near", NAMES_IT)
    await make(port, "team/sub/app", NAMES_IT)
    # These name none of it, whatever they look like.
    await make(port, "team/words", {"version": 1, "env": {"secret": "DB", "C": '{"secret":"DB"}'}})
    await make(port, "team/none", None)
    await make(port, "team-2/app", NAMES_IT)
    await keep(port, "DB", namespace="team")
    await keep(port, "IDLE", namespace="team")
    every = ["team/app", "team/case", "team/near", "team/sub/app"]
    assert await users(port, "namespace=team") == {"DB": (every, True), "IDLE": ([], True)}
    await keep(port, "DB", repository="team/near")
    await keep(port, "DB", namespace="team/sub")
    assert await users(port, "namespace=team") == {
        "DB": (["team/app", "team/case"], True),
        "IDLE": ([], True),
    }
    assert await users(port, "namespace=team/sub") == {"DB": (["team/sub/app"], True)}
    assert await users(port, "repository=team/near") == {"DB": (["team/near"], True)}
    await api(port.admin, "PATCH", "/repositories/team%2Fnear", json={"run_spec": None})
    assert await users(port, "repository=team/near") == {"DB": ([], True)}


async def test_there_may_be_more_than_are_told(port: Port) -> None:
    await api(port.admin, "POST", "/namespaces", status=201, json={"name": "team"})
    await keep(port, "DB", namespace="team")
    names = [f"team/app{number:03}" for number in range(USERS_TOLD + 1)]
    for name in names[:-1]:
        await make(port, name, NAMES_IT)
    assert await users(port, "namespace=team") == {"DB": (names[:-1], True)}
    await make(port, names[-1], NAMES_IT)
    assert await users(port, "namespace=team") == {"DB": (names[:-1], False)}
    assert secretusers.LOOKED_AT > USERS_TOLD
