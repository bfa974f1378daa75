"""Run specs that ask for the scan alone: nothing stands beside it, and nothing is run."""

from __future__ import annotations

import json

import pytest

from registry.contract.asked import asked_by
from registry.contract.limits import Limits
from registry.contract.plan import make_plans
from registry.contract.runspec import SCAN_ALONE_SPEC
from registry.contract.specfile import parse_image_spec, parse_run_spec
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import ImageConfig
from registry.oci.platform import Platform

ALONE = "{version: 1, checks: [scan]}"


def test_it_is_one_spec_that_runs_nothing() -> None:
    spec = parse_run_spec(ALONE)
    assert spec.is_scan_alone
    assert spec.canonical() == SCAN_ALONE_SPEC == '{"checks":["scan"],"version":1}'
    assert parse_run_spec(spec.model_dump_json()) == spec
    assert asked_by(spec.canonical()) == ()
    assert spec.by_case() == {}
    # An image without a command is no matter.
    config = ImageConfig(Platform("linux", "amd64"), ())
    assert make_plans(config, spec, limits=Limits(), ceiling=Limits(), image_spec_allowed=True) == []
    assert not parse_run_spec("{version: 1, checks: [starts]}").is_scan_alone
    assert not parse_run_spec("{version: 1, cases: [{name: scan}]}").is_scan_alone


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ("expect: {exit: 0}", "expect"),
        ("cases: [{name: a}]", "cases"),
        ("command: [/app]", "command"),
        ("pass: all\nattempts: 2", "attempts, pass"),
        ("limits: {pids: 9}", "limits"),
        ("require: [seccomp]", "require"),
    ],
)
def test_nothing_stands_beside_it(beside: str, named: str) -> None:
    with pytest.raises(RequestInvalidError) as raised:
        parse_run_spec(f"version: 1\nchecks: [scan]\n{beside}")
    assert f"runs nothing of the image, so nothing can stand beside it: leave out {named}, or that check" in (
        raised.value.message
    )


def test_no_other_check_stands_beside_it() -> None:
    with pytest.raises(RequestInvalidError, match="leave out the check 'starts', or that check"):
        parse_run_spec("{version: 1, checks: [starts, scan]}")


def test_an_image_cannot_ask_for_it() -> None:
    with pytest.raises(RequestInvalidError, match="checks"):
        parse_image_spec(ALONE)


def test_the_schema_names_it() -> None:
    described = parse_run_spec(ALONE).model_json_schema()["properties"]["checks"]["description"]
    assert "or scan, with nothing beside it" in described
    assert json.loads(SCAN_ALONE_SPEC) == {"version": 1, "checks": ["scan"]}
