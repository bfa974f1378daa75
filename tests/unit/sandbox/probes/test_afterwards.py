"""What is looked at when a run is over."""

from __future__ import annotations

from typing import Any

import pytest

from registry.contract.limits import Limits
from registry.contract.plan import Plan, make_plan
from registry.contract.report import Outbound
from registry.contract.runspec import RunSpec
from registry.oci.imageconfig import ImageConfig
from registry.oci.platform import Platform
from sandbox.images.writes import Change, Kind, Write, Writes
from sandbox.probes.afterwards import Afterwards, look_back
from sandbox.probes.written import judge_writes


def plan(**expect: Any) -> Plan:
    spec = RunSpec.model_validate({"version": 1, "expect": {"tcp": [{"port": 1}], **expect}}, strict=False)
    config = ImageConfig(Platform("linux", "amd64"), (), cmd=("/app",))
    return make_plan(config, spec, limits=Limits(), ceiling=Limits(), image_spec_allowed=False)


def seen(**members: Any) -> Afterwards:
    usual = {
        "ready_seconds": 2.0,
        "memory_peak_bytes": 2**20,
        "cpu_seconds": 0.5,
        "outbound": (),
        "log": b"all is well\n",
        "log_cut": False,
    }
    return Afterwards(**(usual | members))


def met(made: Plan, known: Afterwards) -> list[bool | None]:
    return [one.met for one in look_back(made, known)]


@pytest.mark.parametrize(
    ("members", "outcome"),
    [
        ({}, True),
        ({"log": b"x\npanic: no\n"}, False),
        ({"log": b"x\npanic: no"}, False),
        ({"log_cut": True}, None),
        ({"log": b"panic: no\n", "log_cut": True}, False),
    ],
)
def test_what_must_not_be_said(members: dict[str, Any], outcome: bool | None) -> None:
    made = plan(log=[{"match": "^panic", "absent": True}, {"match": "well"}])
    assert met(made, seen(**members)) == [outcome]


@pytest.mark.parametrize(
    ("members", "outcome"),
    [
        ({}, [True, True, True]),
        ({"ready_seconds": 3.01, "memory_peak_bytes": 2**21, "cpu_seconds": 1.1}, [False] * 3),
        ({"ready_seconds": None, "memory_peak_bytes": None, "cpu_seconds": None}, [None] * 3),
    ],
)
def test_what_it_came_to(members: dict[str, Any], outcome: list[bool | None]) -> None:
    made = plan(below={"start_seconds": 3, "memory_bytes": 2**20, "cpu_seconds": 1})
    observations = list(look_back(made, seen(**members)))
    assert [one.met for one in observations] == outcome
    assert observations[1].expectation == "memory at most 1.0 MiB"


@pytest.mark.parametrize(
    ("outbound", "outcome"), [((), True), (None, None), ("permitted", True), ("refused", False)]
)
def test_what_it_tried_to_reach(outbound: Any, outcome: bool | None) -> None:
    if isinstance(outbound, str):
        permitted = outbound == "permitted"
        place = Outbound(address="192.0.2.1", port=443, protocol="tcp", attempts=2, permitted=permitted)
        outbound = (place,)
    (one,) = look_back(plan(no_outbound=True), seen(outbound=outbound))
    assert one.met is outcome
    assert ("192.0.2.1 port 443/tcp" in one.seen) is (outcome is False)


def write(path: bytes, change: Change = "added", kind: Kind | None = "file") -> Write:
    return Write(path, change, kind, 1, 0o644, 0, 0)


@pytest.mark.parametrize(
    ("allowed", "entries", "outcome"),
    [
        ((), (), True),
        ((), (write(b"/tmp", "changed", "folder"),), False),
        (("/var/log",), (write(b"/var", "changed", "folder"), write(b"/var/log/a")), True),
        (("/var/log",), (write(b"/var", "deleted", None),), False),
        (("/var/log",), (write(b"/var/logs"),), False),
        (("/var/log",), (write(b"/var/log", "deleted", None),), True),
        (("/a", "/b"), (write(b"/a/x"), write(b"/b/y")), True),
        (("/a",), (write(b"/\xff\x1b"),), False),
    ],
)
def test_where_it_wrote(allowed: tuple[str, ...], entries: tuple[Write, ...], outcome: bool) -> None:
    observation = judge_writes(allowed, Writes(entries, len(entries), 0, 0))
    assert observation.met is outcome
    assert observation.seen.isprintable()


def test_more_writes_than_were_looked_at_are_unknown() -> None:
    assert judge_writes(("/a",), Writes((write(b"/a/x"),), 2, 0, 0)).met is None
