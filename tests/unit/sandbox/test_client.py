"""What a worker makes of the registry's answers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from registry.contract.job import ClaimResponse, Job
from registry.contract.limits import Limits, PrepareLimits
from registry.contract.specfile import parse_run_spec
from sandbox.client import JobUnknown, RegistryRefusal, ahead_seconds, parse_claim

JOB = Job(
    protocol=1,
    lease="lease-1",
    lease_seconds=60,
    trial="t",
    part="p",
    attempt=1,
    repository="team/app",
    digest="sha256:aa",
    platform="linux/amd64",
    spec=parse_run_spec("{version: 1, init: true, expect: {file: [{path: /a}]}}"),
    image_spec_allowed=False,
    limits=Limits(),
    ceiling=Limits(),
    prepare=PrepareLimits(),
    pull_token="very secret",
)


def answered(*, job: Mapping[str, object] = MappingProxyType({}), **spec: object) -> bytes:
    answer = json.loads(ClaimResponse(protocol=1, job=JOB).model_dump_json())
    answer["job"].update(job)
    answer["job"]["spec"].update(spec)
    return json.dumps(answer).encode()


def test_a_job() -> None:
    assert parse_claim(answered()).job == JOB


def test_a_job_of_a_newer_registry_is_named_so_that_it_can_be_refused() -> None:
    with pytest.raises(JobUnknown, match=r"job\.spec\.telepathy") as caught:
        parse_claim(answered(telepathy=True))
    job = caught.value
    assert (job.lease, job.digest, job.platform) == ("lease-1", "sha256:aa", "linux/amd64")
    assert "very secret" not in str(job)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"protocol": 1, "job": {"lease": 1}}', b"<html>"])
def test_what_is_no_answer(raw: bytes) -> None:
    with pytest.raises(RegistryRefusal, match="not understood"):
        parse_claim(raw)


@pytest.mark.parametrize("spec", [{}, {"telepathy": True}])
def test_a_lease_that_no_answer_could_name_is_no_job(spec: dict[str, object]) -> None:
    with pytest.raises(RegistryRefusal, match="not understood"):
        parse_claim(answered(job={"lease": "no lease\n"}, **spec))


def test_a_clock() -> None:
    assert ahead_seconds("Fri, 01 Jan 2100 00:00:00 GMT") == pytest.approx(4102444800 - time.time(), abs=60)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "now",
        "Mon, 01 Jan 2024 00:00:00 +99999999999999999",
        "Mon, 99999999999999999999 Jan 2024 00:00:00 GMT",
        "Mon, 01 Jan 99999999999999999999999 00:00:00 GMT",
    ],
)
def test_what_is_no_clock(date: str) -> None:
    assert ahead_seconds(date) is None
