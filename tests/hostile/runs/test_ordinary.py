"""Ordinary images must start: made from Debian's programs, run under the profile ``standard``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.contract.judge import judge
from registry.contract.limits import Limits
from registry.contract.report import Report
from registry.contract.runspec import RunSpec
from sandbox.attempt import Workplace
from tests.kit.debian import missing_programs, nginx_image, postgres_image, redis_image
from tests.kit.images import Image, write_layout
from tests.kit.trying import own_workplace, try_layout

PATIENT = Limits(alive_seconds=45, wall_seconds=100)


@pytest.fixture(scope="module")
def workplace() -> Iterator[Workplace]:
    """A state folder of its own."""
    if missing := missing_programs():
        pytest.skip(f"needs the packages {', '.join(missing)}")
    with own_workplace() as opened:
        yield opened


async def tried(image: Image, folder: Path, workplace: Workplace, spec: RunSpec | None = None) -> Report:
    write_layout(folder, image)
    return await try_layout(f"{folder}", workplace, spec=spec, limits=PATIENT)


@pytest.mark.parametrize("make", [nginx_image, redis_image, postgres_image])
async def test_it_starts(make: Callable[[], Image], tmp_path: Path, workplace: Workplace) -> None:
    report = await tried(make(), tmp_path, workplace)
    assert judge(report).verdict == "pass", report.model_dump_json(indent=1)
    assert report.downgrades == ()


async def test_nginx_answers_with_its_workers(tmp_path: Path, workplace: Workplace) -> None:
    spec = RunSpec.model_validate_json(
        '{"version": 1, "expect": {"alive": false, "http": [{"port": 80, "body": "Ready to sail"}],'
        ' "log": [{"match": "GET / HTTP/1.1. 200"}]}}'
    )
    report = await tried(nginx_image(), tmp_path, workplace, spec)
    assert judge(report).verdict == "pass", report.model_dump_json(indent=1)
    assert "start worker process" in report.runs[0].log


async def test_without_rights_redis_says_what_it_needs(tmp_path: Path, workplace: Workplace) -> None:
    spec = RunSpec.model_validate_json('{"version": 1, "profile": "restricted"}')
    report = await tried(redis_image(), tmp_path, workplace, spec)
    assert report.error is not None, report.model_dump_json(indent=1)
    assert report.error.reason == "needs-capability"
    assert "CAP_CHOWN" in report.error.message
