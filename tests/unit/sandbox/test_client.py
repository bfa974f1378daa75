"""What a worker makes of the registry's answers."""

from __future__ import annotations

import json

import pytest

from registry.contract.job import ClaimResponse, Job
from registry.contract.limits import Limits, PrepareLimits
from registry.contract.runspec import parse_run_spec
from sandbox.client import JobUnknown, RegistryRefusal, parse_claim

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


def answered(**spec: object) -> bytes:
    answer = json.loads(ClaimResponse(protocol=1, job=JOB).model_dump_json())
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
