"""Services: images that run beside the one under test, in real containers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from registry.contract.judge import judge
from registry.contract.limits import Limits, PrepareLimits
from registry.contract.report import Report
from registry.contract.runspec import RunSpec
from registry.oci.descriptor import Descriptor
from registry.oci.platform import Platform
from sandbox.attempt import Task, Workplace, try_image
from sandbox.images.source import ImageSource, open_source
from sandbox.runtimes.cgroups import find_cgroups, group_names
from sandbox.services import ServiceSource
from tests.integration.worker.conftest import REPOSITORY, Yard
from tests.kit.images import busybox_image, write_layout
from tests.kit.runs import MIB
from tests.kit.trying import own_workplace

LIMITS = Limits(alive_seconds=30, wall_seconds=60, memory_bytes=32 * MIB, pids=32, written_bytes=16 * MIB)
CEILING = LIMITS.model_copy(
    update={"memory_bytes": 96 * MIB, "pids": 100, "written_bytes": 64 * MIB, "cpus": 4, "wall_seconds": 900}
)
WORD = "a word nobody may read"


@pytest.fixture(scope="module")
def workplace() -> Iterator[Workplace]:
    with own_workplace() as opened:
        yield opened


class Slow:
    """A source that takes its time; ``asked`` is one for each time that it was asked for an image."""

    def __init__(self, source: ImageSource, asked: list[str]) -> None:
        self._source, self._asked = source, asked

    async def manifest(self, reference: str) -> tuple[bytes, str]:
        self._asked.append(reference)
        await asyncio.sleep(1.5)
        return await self._source.manifest(reference)

    def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        return self._source.blob(descriptor)


@asynccontextmanager
async def tasked(
    folder: Path,
    script: str,
    services: Mapping[str, Mapping[str, Any]],
    *,
    image: Mapping[str, Any] = MappingProxyType({}),
    **spec: Any,
) -> AsyncIterator[tuple[ImageSource, Task]]:
    """A task for an ``image`` that runs ``script``, and its source; each service has a ``script`` as well."""
    beside = [
        {"name": name, "image": f"team/{name}", "command": ["/bin/sh", "-c", one["script"]]}
        | {key: value for key, value in one.items() if key != "script"}
        for name, one in services.items()
    ]
    layout = write_layout(folder / "layout", busybox_image(("/bin/sh", "-c", script), **image))
    async with AsyncExitStack() as stack:
        opening = open_source(f"oci:{layout}", credentials=None, insecure=False)
        source, reference = await stack.enter_async_context(opening)
        task = Task(
            reference=reference,
            platform=Platform("linux", "amd64"),
            spec=RunSpec.model_validate({"version": 1, "services": beside, **spec}, strict=False),
            image_spec_allowed=True,
            limits=LIMITS,
            ceiling=CEILING,
            prepare=PrepareLimits(),
            services=[ServiceSource(name, f"team/{name}", reference, source) for name in services],
            secrets={"S": WORD},
        )
        yield source, task


def nothing_left(workplace: Workplace) -> bool:
    runtime = workplace.runtime
    return (
        not group_names(find_cgroups(), runtime.cgroup_parent)
        and not runtime.list_runs()
        and str(workplace.state) not in Path("/proc/self/mountinfo").read_text()
        and not list(workplace.state.glob("runs/*"))
    )


async def tried(
    workplace: Workplace, folder: Path, script: str, services: Mapping[str, Mapping[str, Any]], **spec: Any
) -> Report:
    async with tasked(folder, script, services, **spec) as (source, task):
        report = await try_image(source, task, workplace=workplace)
    assert nothing_left(workplace)
    return report


async def test_they_stand_in_its_network_and_in_nothing_else_of_it(
    workplace: Workplace, tmp_path: Path
) -> None:
    shown = "cat /etc/hosts /proc/self/uid_map; ps -o args; ls /sys; test -e /mine && echo leaked"
    services = {
        "web": {
            "script": f"mkdir /www; cd /www; while :; do ({shown}) > new; mv new index.html; sleep 0.1; done "
            "& exec httpd -f -p 8080 -h /www",
            "ready": {"http": {"port": 8080, "body": "web"}},
        },
        # It is begun when the first is ready, and finds it by its name.
        "echo": {
            "script": "wget -qO- http://web:8080/ >/dev/null && echo ready; exec nc -ll -p 7 -e /bin/cat",
            "user": "1000:1000",
            "ready": {"log": "^ready$"},
        },
    }
    script = (
        "set -e; touch /mine; cat /etc/hosts /proc/self/uid_map; ps -o args; "
        "until echo hi | nc echo 7; do sleep 0.1; done; wget -qO- http://web:8080/"
    )
    expect = {"exit": 0, "log": [{"match": "^hi$"}]}
    report = await tried(workplace, tmp_path, script, services, expect=expect)
    assert judge(report).verdict == "pass", report
    mine, _, of_web = report.runs[0].log.partition("\nhi\n")
    for text in (mine, of_web):
        assert {"127.0.0.1\tweb", "127.0.0.1\techo"} <= set(text.splitlines())
    first, second = (
        next(line.split()[1] for line in text.splitlines() if line.split()[2:] == ["65536"])
        for text in (mine, of_web)
    )
    assert first != second
    assert "httpd" not in mine
    assert "httpd" in of_web
    assert "nc -ll" not in of_web
    assert not {"leaked", "class", "kernel"} & set(of_web.split())
    lines = {one.name: one for one in report.mechanisms}
    for name in services:
        assert lines[f"service {name}"].applied
        assert f"team/{name}@sha256:" in lines[f"service {name}"].detail
    assert "start services" in [step.name for step in report.steps]


@pytest.mark.parametrize(
    ("service", "script", "said", "wrote"),
    [
        (
            {"script": "echo it says $S; exit 3", "env": {"S": {"secret": "S"}}, "ready": {"tcp": 7}},
            "exit 0",
            "ended before it was ready: exit code 3",
            "it says ***",
        ),
        (
            {"script": "echo waits; exec sleep 1000", "ready": {"tcp": 7, "within_seconds": 15}},
            "exit 0",
            "was not ready within 15 s",
            "waits",
        ),
        (
            {"script": "echo ready; exec nc -l -p 7 -e /bin/true", "ready": {"log": "^ready$"}},
            "until nc db 7; do sleep 0.1; done; exec sleep 1000",
            "ended while it was needed: exit code 0",
            "ready",
        ),
        # What answers there is not the image.
        (
            {"script": "echo ready; exec httpd -f -p 8080", "ready": {"log": "^ready$"}},
            "exec sleep 1000",
            "listens on port 8080, on which the image is tested",
            "ready",
        ),
        (
            {"script": "while :; do echo ready; done", "ready": {"log": "never"}},
            "exit 0",
            "wrote more than 65536 bytes of output",
            "ready\nready",
        ),
    ],
)
async def test_what_a_service_does_amiss_is_no_verdict_on_the_image(
    workplace: Workplace, tmp_path: Path, *, service: Mapping[str, Any], script: str, said: str, wrote: str
) -> None:
    expect = {"tcp": [{"port": 8080}]} if "httpd" in service["script"] else {"exit": 0}
    given = {**service, "limits": {"log_bytes": 65536}}
    report = await tried(workplace, tmp_path, script, {"db": given}, expect=expect)
    assert report.error is not None
    assert report.error.reason == "service-failed"
    assert report.error.message.startswith("the service db ")
    assert said in report.error.message
    (run,) = report.runs
    assert (run.name, run.met()) == ("service db", None)
    # Who may not read logs may read the reason.
    assert "it says" not in report.error.message
    assert wrote in run.log
    assert WORD not in report.model_dump_json()
    assert judge(report).verdict == "error"


async def test_a_service_is_not_healthy_in_the_place_of_the_image(
    workplace: Workplace, tmp_path: Path
) -> None:
    services = {"db": {"script": "exec nc -ll -p 8080 -e /bin/true", "ready": {"tcp": 8080}}}
    health = {"Test": ["CMD", "nc", "localhost", "8080"], "Interval": 100_000_000}
    image = {"ports": ["8080/tcp"], "healthcheck": health}
    report = await tried(workplace, tmp_path, "exec sleep 1000", services, image=image)
    assert report.error is not None, report
    assert report.error.reason == "service-failed"
    assert "listens on port 8080, on which the image is tested" in report.error.message


async def test_who_answered_is_known_when_it_is_over(workplace: Workplace, tmp_path: Path) -> None:
    expect = {"tcp": [{"port": 8080, "within_seconds": 60}]}
    once = "echo ready; nc -l -p 7 >/dev/null; nc -l -p 8080 -e /bin/true; exec sleep 1000"
    services = {"db": {"script": once, "ready": {"log": "^ready$"}}}
    calls = "until echo go | nc db 7; do sleep 0.1; done; exec sleep 1000"
    report = await tried(workplace, tmp_path / "it", calls, services, expect=expect)
    assert report.error is not None, report
    assert report.error.reason == "service-failed"
    assert "on port 8080" in report.error.message
    report = await tried(workplace, tmp_path / "own", "exec httpd -f -p 8080", services, expect=expect)
    assert judge(report).verdict == "pass", report
    # Nor is one believed that has ended, unless it was seen to listen.
    ends = expect | {"exit": 0}
    calls = "until echo go | nc db 7; do sleep 0.1; done; sleep 20"
    report = await tried(workplace, tmp_path / "ended", calls, services, expect=ends)
    assert report.error is not None, report
    assert report.error.reason == "service-failed"
    assert "on port 8080" in report.error.message
    own = "httpd -p 8080; sleep 20"
    report = await tried(workplace, tmp_path / "own-ended", own, services, expect=ends)
    assert judge(report).verdict == "pass", report
    (run,) = report.runs
    assert run.services_seconds is not None
    assert 0 < run.services_seconds < run.all_seconds() < 300


async def test_all_images_of_a_run_are_prepared_in_the_time_of_one(
    workplace: Workplace, tmp_path: Path
) -> None:
    services = {
        name: {"script": "exec sleep 1000", "ready": {"tcp": port}}
        for port, name in enumerate(("one", "two", "three"), 7)
    }
    asked: list[str] = []
    async with tasked(tmp_path, "exit 0", services) as (source, task):
        slow = [replace(one, source=Slow(one.source, asked)) for one in task.services]
        hurried = replace(task, services=slow, prepare=PrepareLimits(seconds=2))
        report = await try_image(source, hurried, workplace=workplace)
    # Two of them alone take longer.
    assert len(asked) < len(services)
    assert report.error is not None
    assert report.error.reason == "prepare-timeout"


async def test_a_run_that_is_given_up_leaves_no_service(workplace: Workplace, tmp_path: Path) -> None:
    services = {"db": {"script": "echo ready; exec sleep 1000", "ready": {"log": "^ready$"}}}
    begun = asyncio.Event()
    async with tasked(tmp_path, "echo up; exec sleep 1000", services, expect={"exit": 0}) as (source, task):
        # With secrets to mask the first output would wait for more.
        watched = replace(task, on_output=lambda _: begun.set(), secrets={})
        trying = asyncio.create_task(try_image(source, watched, workplace=workplace))
        async with asyncio.timeout(60):
            await begun.wait()
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
    assert nothing_left(workplace)


async def test_they_are_images_of_a_registry_and_below_its_ceiling(
    workplace: Workplace, tmp_path: Path
) -> None:
    service = {"script": "exec sleep 1000", "ready": {"tcp": 7}}
    async with tasked(tmp_path, "exit 0", {"db": service}) as (source, task):
        report = await try_image(source, replace(task, services=()), workplace=workplace)
    assert report.error is not None
    assert report.error.message.startswith("the run spec has the service db, an image of a registry")
    large = {**service, "limits": {"memory_bytes": 80 * MIB}}
    report = await tried(workplace, tmp_path, "exit 0", {"db": large})
    assert report.error is not None
    assert (report.error.reason, report.runs) == ("spec-invalid", ())
    assert "of memory_bytes together, and the ceiling is" in report.error.message


async def test_each_run_has_its_own_and_a_case_may_have_none(workplace: Workplace, tmp_path: Path) -> None:
    # It answers once, so that a second run needs another.
    services = {
        "db": {
            "script": "echo ready; nc -l -p 7 -e /bin/echo once; exec sleep 1000",
            "ready": {"log": "ready"},
        }
    }
    asks = ["/bin/sh", "-c", "until nc db 7 | grep once; do sleep 0.1; done"]
    cases = [
        {"name": "first", "command": asks},
        {"name": "second", "command": asks},
        {
            "name": "alone",
            "command": ["/bin/grep", "db", "/etc/hosts"],
            "expect": {"exit": 1},
            "services": [],
        },
    ]
    report = await tried(workplace, tmp_path, "exit 9", services, expect={"exit": 0}, cases=cases)
    assert judge(report).verdict == "pass", report
    assert [run.name for run in report.runs] == ["first", "second", "alone"]


def test_a_worker_pulls_them_from_the_registry(make_yard: Callable[..., Yard]) -> None:
    yard = make_yard()
    worker = yard.worker("one")
    worker.start()
    serve = "mkdir /www; echo the database > /www/index.html; exec httpd -f -p 8080 -h /www"
    yard.push(busybox_image(("/bin/sh", "-c", serve)), "db", repository="base/db")
    yard.call("GET", "/api/v1/trials", params={"image": "base/db", "tag": "db", "wait": "60"})
    yard.push(busybox_image(("/bin/sh", "-c", "exec wget -qO- http://db:8080/")), "app")
    spec = {
        "version": 1,
        "services": [{"name": "db", "image": "base/db:db", "ready": {"http": {"port": 8080}}}],
        "expect": {"exit": 0, "log": [{"match": "^the database$"}]},
    }
    yard.verdict("app")
    yard.call("POST", "/api/v1/trials", json={"image": f"{REPOSITORY}:app", "spec": spec})
    trial = yard.verdict("app")
    assert trial["verdict"] == "pass", trial
