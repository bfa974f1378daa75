"""What becomes of an attempt whose source fails: always a report, never a traceback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.contract.job import Job
from registry.contract.judge import judge
from registry.contract.limits import Limits, PrepareLimits
from registry.contract.report import Report
from registry.oci.descriptor import Descriptor
from registry.oci.platform import Platform
from sandbox.attempt import Task, Workplace, try_image
from sandbox.client import registry_client
from sandbox.errors import SandboxError
from sandbox.images.cache import Cache
from sandbox.images.collect import CacheLimits
from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.spawn import Supervisors
from sandbox.worker import Drain, _hand_in
from tests.kit.trials import Port, make_report, open_port, tiny_image, worker_token
from tests.kit.worker import PATH, why_no_runs

DIGEST = f"sha256:{'a' * 64}"


class Failing:
    """A source that has nothing but an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def manifest(self, reference: str) -> tuple[bytes, str]:
        raise self.error

    async def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        raise self.error
        yield b""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    why = why_no_runs()
    if why is not None:
        pytest.skip(why)
    monkeypatch.setenv("PATH", PATH, prepend=":")
    limits = CacheLimits(quota_bytes=1 << 40, reserve_bytes=0)
    return Workplace(
        tmp_path,
        find_runtime(tmp_path / "runtime"),
        Supervisors(),
        Cache(tmp_path / "cache"),
        limits,
        frozenset(),
    )


async def attempt(workplace: Workplace, error: Exception) -> Report:
    task = Task(
        reference=DIGEST,
        platform=Platform("linux", "amd64"),
        spec=None,
        image_spec_allowed=False,
        limits=Limits(),
        ceiling=Limits(),
        prepare=PrepareLimits(),
        lease="a-lease",
    )
    report = await try_image(Failing(error), task, workplace=workplace)
    assert (report.digest, report.lease, report.runs) == (DIGEST, "a-lease", ())
    assert judge(report).verdict == "error"
    assert [step.name for step in report.steps] == ["pull"]
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert not list((workplace.state).glob("runs/*"))
    return report


async def test_a_known_failure_keeps_its_reason(workplace: Workplace) -> None:
    report = await attempt(workplace, SandboxError("pull-failed", "no way there", retryable=True))
    assert report.error is not None
    assert (report.error.reason, report.error.message, report.error.retryable) == (
        "pull-failed",
        "no way there",
        True,
    )


async def test_names_that_are_no_text_and_long_stories_fit_into_a_report(workplace: Workplace) -> None:
    message = "file \udcff is wrong " + "x" * 5000
    report = await attempt(workplace, SandboxError("layer-invalid", message))
    assert report.error is not None
    assert report.error.message.startswith("file ? is wrong x")
    assert len(report.error.message) == 2000


async def test_a_fault_of_the_worker_says_nothing_of_the_image(workplace: Workplace) -> None:
    report = await attempt(workplace, RuntimeError("secret-laden /srv/path"))
    assert report.error is not None
    assert report.error.reason == "worker-error"
    assert "secret" not in report.error.message
    full = await attempt(workplace, OSError(28, "No space left on device"))
    assert full.error is not None
    assert (full.error.reason, full.error.retryable) == ("worker-disk", True)


async def test_a_report_that_is_not_taken_is_replaced_by_one_that_says_so(
    tmp_path: Path, sqlite_template: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'seatrial.db'}"
    (tmp_path / "seatrial.db").write_bytes(sqlite_template.read_bytes())
    async with open_port(tmp_path / "data", url) as port:
        await _too_long_a_report(port)


async def _too_long_a_report(port: Port) -> None:
    digest = await port.push(tiny_image())
    token = await worker_token(port.admin, "one")
    async with registry_client(port.registry.url, token) as client:
        answer = await client.claim(("linux/amd64",), wait_seconds=5)
        job = answer.job
        assert isinstance(job, Job)
        # Six bytes on the wire for each of these.
        said = make_report(job.model_dump(mode="json"), log="\x01" * (1024 * 1024))
        report = Report.model_validate(said, strict=False)
        await _hand_in(client, job, report, Drain(asked=asyncio.Event(), now=asyncio.Event()))
    (trial,) = await port.trials(digest)
    assert trial["verdict"] == "error"
    assert trial["reason"].startswith("worker-error: the report was refused: the registry answered 413: ")
