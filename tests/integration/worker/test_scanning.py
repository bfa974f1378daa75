"""Images scanned on their way to a run, and what was found handed in."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from registry.contract.limits import Limits, PrepareLimits
from registry.contract.report import Report
from registry.contract.scan import Scan
from registry.oci.platform import Platform
from sandbox.attempt import Scanning, Task, Workplace, try_image
from sandbox.client import registry_client
from sandbox.images.sourcefile import LayoutSource
from sandbox.scanners.layers import Scanner, make_scanner
from sandbox.worker import Drain, _hand_in_scan
from sandbox.workplace import opened_workplace
from tests.integration.worker.conftest import Yard
from tests.kit.feared import feared
from tests.kit.images import Image, busybox_image, file, make_image, make_layer, write_layout
from tests.kit.trials import REPOSITORY
from tests.kit.worker import PATH, why_no_runs

STATUS = b"Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2+b7\nArchitecture: amd64\n\n"
DPKG = make_layer(file("var/lib/dpkg/status", STATUS))


@pytest.fixture(scope="module")
def workplace() -> Iterator[Workplace]:
    why = why_no_runs()
    if why is not None:
        pytest.skip(why)
    with ExitStack() as stack:
        # Not below tmp_path: its parents are closed to the mapped users.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seatrial-scans-")))
        folder.chmod(0o711)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("PATH", PATH, prepend=":")
        opened = opened_workplace(folder / "state", runtime="auto", allowed_downgrades=frozenset())
        yield stack.enter_context(opened)[0]


async def tried(
    image: Image, workplace: Workplace, folder: Path, *, scanner: Scanner | None = None
) -> tuple[Report, list[Scan]]:
    scans: list[Scan] = []

    async def keep(scan: Scan) -> None:
        scans.append(scan)

    task = Task(
        reference="",
        platform=Platform("linux", "amd64"),
        spec=None,
        image_spec_allowed=False,
        limits=Limits(),
        ceiling=Limits(),
        prepare=PrepareLimits(),
        lease="a-lease",
        scanning=Scanning(scanner or make_scanner(), keep),
    )
    layout = write_layout(folder / "layout", image)
    return await try_image(LayoutSource(layout), task, workplace=workplace), scans


async def test_an_image_is_scanned_before_it_is_run(workplace: Workplace, tmp_path: Path) -> None:
    image = busybox_image(("/bin/sh", "-c", "exit 0"), layers=(DPKG,))
    report, (scan,) = await tried(image, workplace, tmp_path)
    assert [run.exit_code for run in report.runs] == [0]
    assert [step.name for step in report.steps][:3] == ["pull", "unpack", "scan"]
    assert [one.name for one in scan.packages] == ["bash"]
    assert (scan.lease, scan.incomplete) == ("a-lease", ())
    assert Scan.model_validate_json(scan.model_dump_json()) == scan


async def test_an_image_that_cannot_be_run_is_scanned_all_the_same(
    workplace: Workplace, tmp_path: Path
) -> None:
    report, (scan,) = await tried(make_image(DPKG), workplace, tmp_path)
    assert report.error is not None
    assert report.error.reason == "no-command"
    assert [one.name for one in scan.packages] == ["bash"]


async def test_a_scan_that_fails_is_incomplete_and_the_image_is_run(
    workplace: Workplace, tmp_path: Path
) -> None:
    image = busybox_image(("/bin/sh", "-c", "exit 0"), layers=(make_layer(file("new", b"new")),))
    # A package that is no longer there when the child looks for it.
    gone = replace(make_scanner(), packages=("no.such.package",))
    report, (scan,) = await tried(image, workplace, tmp_path, scanner=gone)
    assert [run.exit_code for run in report.runs] == [0]
    reasons = {one.layer: one.reason for one in scan.incomplete}
    assert reasons[len(scan.layers) - 1] == "scanning it ended with code 1"


def test_a_pushed_image_is_scanned_and_the_registry_has_what_was_found(
    make_yard: Callable[..., Yard],
) -> None:
    yard = make_yard()
    worker = yard.worker("scanner")
    worker.start()
    yard.push(busybox_image(("/bin/sh", "-c", "exit 0"), layers=(DPKG,)), "scanned")
    (part,) = yard.verdict("scanned")["parts"]
    assert part["scan"].pop("document_digest").startswith("sha256:")
    # What is found in how the image is made belongs to the rules for that.
    assert part["scan"].pop("found") > 0
    assert part["scan"] == {"state": "taken", "packages": 1, "incomplete": 0, "truncated": False}
    assert "scan" in [step["name"] for step in part["record"]["steps"]]
    # What is only scanned needs no command, and no worker for its platform.
    alone = {"run_spec": {"version": 1, "checks": ["scan"]}}
    yard.call("PATCH", f"/api/v1/repositories/{REPOSITORY.replace('/', '%2F')}", json=alone)
    yard.push(make_image(DPKG, platform="linux/s390x"), "foreign")
    trial = yard.verdict("foreign")
    (part,) = trial["parts"]
    assert (trial["verdict"], trial["runs"], part["scan_alone"]) == ("pass", [], True), trial["reason"]
    assert (part["platform"], part["scan"]["packages"]) == ("linux/s390x", 1)
    assert [step["name"] for step in part["record"]["steps"]] == ["pull", "unpack", "scan"]


def test_of_a_hostile_image_a_policy_makes_what_it_says_and_the_worker_goes_on(
    make_yard: Callable[..., Yard],
) -> None:
    yard = make_yard()
    worker = yard.worker("hostile")
    worker.start()
    yard.push(busybox_image(("/bin/sh", "-c", "exit 0"), layers=(DPKG,)), "good")
    assert yard.verdict("good")["verdict"] == "pass"
    alone = {"run_spec": {"version": 1, "checks": ["scan"]}}
    yard.call("PATCH", f"/api/v1/repositories/{REPOSITORY.replace('/', '%2F')}", json=alone)
    # What is larger than any image may be is not unpacked at all.
    members = {path: member for path, (member, _) in feared().items() if path != "opt/vast.jar"}
    image = make_image(make_layer(*members.values()))
    policy = {"version": 1, "secrets": "low"}
    yard.call("PUT", "/api/v1/findings-policy", json={"on": REPOSITORY, "policy": policy})
    digest = yard.push(image, "hostile")
    trial = yard.verdict("hostile")
    (part,) = trial["parts"]
    assert (trial["verdict"], part["worker"]) == ("error", "hostile"), trial["reason"]
    assert "could not look at it" in trial["reason"]
    assert part["scan"]["incomplete"] >= len(members)
    # Another rule, and no scan again.
    asked = {"image": f"{REPOSITORY}@{digest}"}
    for then in ("fail", "warn"):
        body = {"on": REPOSITORY, "policy": {**policy, "incomplete": then}}
        yard.call("PUT", "/api/v1/findings-policy", json=body)
        until = time.monotonic() + 60
        while yard.call("GET", "/api/v1/gate", params=asked)["state"] != then:
            assert time.monotonic() < until
            time.sleep(0.1)
    # The same worker, by the same policy.
    yard.push(make_image(DPKG), "after")
    (part,) = yard.verdict("after")["parts"]
    assert (part["verdict"], part["scan"]["packages"], part["worker"]) == ("pass", 1, "hostile")
    assert part["scan"]["incomplete"] == 0


def registry(answers: list[int], taken: list[Any]) -> web.Application:
    async def take(request: web.Request) -> web.Response:
        taken.append(json.loads(await request.read()))
        return web.json_response({"detail": "as it was told"}, status=answers.pop(0))

    app = web.Application(client_max_size=1 << 26)
    app.add_routes([web.post("/worker/v1/scan", take)])
    return app


@pytest.mark.parametrize(
    ("answers", "sent", "whole"),
    [
        ([204], 1, True),
        ([503, 429, 204], 3, True),
        ([409], 1, True),
        ([413, 204], 2, False),
        ([400, 400], 2, False),
    ],
)
async def test_what_was_found_is_handed_in(
    answers: list[int], sent: int, whole: bool, workplace: Workplace, tmp_path: Path
) -> None:
    _, (scan,) = await tried(make_image(DPKG), workplace, tmp_path)
    taken: list[Any] = []
    drain = Drain(asked=asyncio.Event(), now=asyncio.Event())
    async with (
        TestServer(registry(answers, taken)) as server,
        registry_client(str(server.make_url("")), "token") as client,
    ):
        await _hand_in_scan(client, scan, drain=drain)
    assert len(taken) == sent
    assert answers == []
    last = Scan.model_validate(taken[-1], strict=False)
    if whole:
        assert last == scan
    else:
        # Never as if nothing had been found.
        assert last.packages == ()
        assert last.incomplete[0].reason.startswith("the scan was refused: the registry answered 4")
