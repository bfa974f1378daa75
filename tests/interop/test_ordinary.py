"""Ordinary images must start on each runtime, and say what they lack where rights are withheld."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.contract.judge import judge
from registry.contract.limits import Limits
from registry.contract.report import Report
from registry.contract.runspec import RunSpec
from registry.contract.specfile import parse_run_spec
from sandbox.attempt import Workplace
from sandbox.workplace import opened_workplace
from tests.kit.images import write_layout
from tests.kit.ordinary import find_base, ordinary_images
from tests.kit.trying import try_layout

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="all isolation needs root"),
]
PATIENT = Limits(alive_seconds=90, wall_seconds=120)
AT_ONCE = 2
NO_CHOWN = "CAP_CHOWN"
READ_ONLY = "are read-only"
LACKED = {
    "nginx": READ_ONLY,
    "redis": NO_CHOWN,
    "postgres": NO_CHOWN,
    "mariadb": NO_CHOWN,
    "apache": READ_ONLY,
    "java": None,
    "node": None,
    "python": NO_CHOWN,
}
"""What each lacks under ``restricted``; ``None``: nothing."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Not tmp_path: its parents are closed to the run's users."""
    path = Path(tempfile.mkdtemp(prefix="seatrial-ordinary-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def layout(folder: Path) -> Path:
    """A layout with the eight images, each under its name."""
    base = find_base()
    if base is None:
        pytest.skip("their layer is not made: make interop")
    images = ordinary_images(base)
    return write_layout(folder / "layout", *images.values(), tag=list(images))


async def _tried(layout: Path, workplace: Workplace, *, profile: str) -> dict[str, Report]:
    """The reports of all images, a few at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> Report:
        # Those that end do so by themselves, but some listen before: a look at their port could come between.
        expect = {"alive": 80} if profile == "restricted" and LACKED[name] is not None else {}
        spec = RunSpec.model_validate({"version": 1, "profile": profile, "expect": expect})
        async with slots:
            return await try_layout(f"{layout}:{name}", workplace, spec=spec, limits=PATIENT)

    reports = await asyncio.gather(*(one(name) for name in LACKED))
    return dict(zip(LACKED, reports, strict=True))


@pytest.mark.parametrize("runtime", ["runc of Debian", "runc", "crun", "runsc"])
async def test_each_runtime_runs_them_all(
    runtime: str, layout: Path, folder: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if runtime != "runc of Debian":
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    name = runtime.partition(" ")[0]
    with opened_workplace(
        folder / name, runtime=name, allowed_downgrades=frozenset(), cache=folder / "cache"
    ) as (workplace, _):
        standard = await _tried(layout, workplace, profile="standard")
        verdicts = {name: judge(report).verdict for name, report in standard.items()}
        assert verdicts == dict.fromkeys(LACKED, "pass"), _words(standard)
        restricted = await _tried(layout, workplace, profile="restricted")
        for name, lacked in LACKED.items():
            report = restricted[name]
            if lacked is None:
                assert judge(report).verdict == "pass", _words(restricted)
            elif (runtime, name) == ("runsc", "apache"):
                # gVisor asks whose the folder is before it asks whether anything may be written there.
                assert judge(report).verdict == "fail", _words(restricted)
                assert "httpd.pid': Permission denied" in report.runs[0].log
            else:
                assert report.error is not None, _words(restricted)
                wanted = "needs-writable-root" if lacked == READ_ONLY else "needs-capability"
                assert report.error.reason == wanted, _words(restricted)
                assert lacked in report.error.message


def _words(reports: dict[str, Report]) -> str:
    lines = []
    for name, report in reports.items():
        judgement = judge(report)
        log = report.runs[0].log[-400:] if report.runs else ""
        lines.append(f"{name}: {judgement.verdict}: {judgement.reason}\n{log}")
    return "\n".join(lines)


DATABASE = r"""
version: 1
command: [/bin/sh, -c, "psql -h db -U postgres -d app -c 'CREATE TABLE berths (ship text)' && echo migrated"]
env: {PGPASSWORD: ahoy}
services:
  - name: db
    image: base/postgres:15
    env: {POSTGRES_PASSWORD: ahoy}
    limits: {memory_bytes: 268435456}
    ready: {tcp: 5432, within_seconds: 120}
expect:
  exit: 0
  log: [{match: "^migrated$"}]
"""


@pytest.mark.parametrize("runtime", ["runc of Debian", "crun"])
async def test_each_runtime_runs_a_database_beside_an_image(
    runtime: str, layout: Path, folder: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of docs/run-spec.md."""
    if runtime != "runc of Debian":
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    name = runtime.partition(" ")[0]
    place = opened_workplace(
        folder / f"beside-{name}", runtime=name, allowed_downgrades=frozenset(), cache=folder / "cache"
    )
    with place as (workplace, _):
        report = await try_layout(
            f"{layout}:postgres",
            workplace,
            spec=parse_run_spec(DATABASE),
            limits=PATIENT,
            ceiling=PATIENT.model_copy(
                update={
                    "memory_bytes": 2**31,
                    "wall_seconds": 900,
                    "cpus": 4,
                    "pids": 999,
                    "written_bytes": 2**33,
                }
            ),
            services={"db": "postgres"},
        )
    assert judge(report).verdict == "pass", report
