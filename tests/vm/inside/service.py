"""The worker's unit under systemd itself: its runs are in the group that systemd hands to it.

The registry is a scripted one in this process: it has one image, and hands out what a check asks for.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from registry.contract.job import ClaimResponse, Job, RenewResponse
from registry.contract.limits import Limits, PrepareLimits
from registry.contract.runspec import RunSpec
from sandbox.runtimes.cgroups import pids_in
from tests.kit.images import OCI_MANIFEST, busybox_image, write_layout
from tests.kit.runs import MIB
from tests.kit.sources import ROOT
from tests.vm.inside.tell import Record

UNIT = "seatrial-worker.service"
GROUPS = Path("/sys/fs/cgroup")
GROUP = GROUPS / "system.slice" / UNIT
LOG = Path("/run/seatrial-worker.log")
LIMITS = Limits(memory_bytes=64 * MIB, pids=32, cpus=0.5, written_bytes=8 * MIB, wall_seconds=100)
# Of what a host has running before a worker, nothing is running here.
DROP_IN = f"[Unit]\nDefaultDependencies=no\n[Service]\nStandardOutput=append:{LOG}\nStandardError=inherit\n"


@dataclass(slots=True)
class Registry:
    """Answers as a registry does that has one image and the jobs that were put here."""

    jobs: asyncio.Queue[Job] = field(default_factory=asyncio.Queue)
    reports: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    blobs: dict[str, bytes] = field(default_factory=dict)
    count: int = 0

    def ask(self, script: str) -> None:
        """Have ``script`` run next."""
        image = busybox_image(["/bin/sh", "-c", script])
        self.blobs |= image.blobs()
        self.count += 1
        self.jobs.put_nowait(
            Job(
                protocol=1,
                lease=f"lease-{self.count}",
                lease_seconds=600,
                trial="trial",
                part="part",
                attempt=1,
                repository="team/app",
                digest=image.digest,
                platform="linux/amd64",
                spec=RunSpec.model_validate({"version": 1, "expect": {"exit": 0}}, strict=False),
                image_spec_allowed=False,
                limits=LIMITS,
                ceiling=LIMITS,
                prepare=PrepareLimits(),
                pull_token="opens",
            )
        )

    async def claim(self, _: web.Request) -> web.Response:
        try:
            job = await asyncio.wait_for(self.jobs.get(), 2)
        except TimeoutError:
            job = None
        return _json(ClaimResponse(protocol=1, job=job).model_dump_json())

    async def renew(self, _: web.Request) -> web.Response:
        return _json(RenewResponse(protocol=1, lease_seconds=600).model_dump_json())

    async def report(self, request: web.Request) -> web.Response:
        self.reports.put_nowait(json.loads(await request.read()))
        return web.Response(status=204)

    async def content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.blobs[request.match_info["digest"]], content_type=OCI_MANIFEST)


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """The registry, and the unit that is told of it; the worker is not started yet."""
    scripted = Registry()
    app = web.Application()
    for action in ("claim", "renew", "report"):
        app.router.add_post(f"/worker/v1/{action}", getattr(scripted, action))
    app.router.add_get("/v2/team/app/{kind:manifests|blobs}/{digest}", scripted.content)
    async with TestServer(app) as server:
        folder = Path("/etc/systemd/system")
        shutil.copy(ROOT / "deploy/systemd" / UNIT, folder)
        (folder / f"{UNIT}.d").mkdir()
        (folder / f"{UNIT}.d/machine.conf").write_text(DROP_IN)
        Path("/etc/seatrial").mkdir(mode=0o700)
        Path("/etc/seatrial/worker.token").write_text("secret\n")
        Path("/etc/seatrial/worker-environment").write_text(f"SEATRIAL_REGISTRY={server.make_url('')}\n")
        systemctl("daemon-reload")
        try:
            yield scripted
        finally:
            await asyncio.to_thread(systemctl, "stop", UNIT)
            # Shown where a check failed.
            print(LOG.read_text())


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr} {LOG.read_text() if LOG.exists() else ''}"
    return done.stdout


def state() -> dict[str, str]:
    shown = systemctl("show", UNIT, "--property=ActiveState,Result,NRestarts,MainPID")
    return dict(line.split("=", 1) for line in shown.splitlines())


def runs() -> list[Path]:
    """Groups of runs with a process in them."""
    return [path for path in GROUP.glob("seatrial/*/*") if pids_in(path)]


def held() -> list[str]:
    """The limit of memory of each of them."""
    found = []
    for path in runs():
        # The worker's first look at a runtime is over when it likes.
        with suppress(OSError):
            found.append((path / "memory.max").read_text().strip())
    return found


async def until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(280):
        while not found():  # noqa: ASYNC110  (the kernel sets no event)
            await asyncio.sleep(0.2)
    assert found()


async def test_runs_are_in_the_group_of_the_unit(registry: Registry, record_property: Record) -> None:
    elsewhere = sorted(GROUPS.glob("seatrial/*"))
    registry.ask("sleep 3")
    await asyncio.to_thread(systemctl, "start", UNIT)
    # A runtime makes the group before its limits.
    await until(lambda: held() == [str(LIMITS.memory_bytes)])
    assert (GROUP / "cgroup.procs").read_text() == ""
    assert state()["MainPID"] in (GROUP / "seatrial-worker/cgroup.procs").read_text().split()
    report = await registry.reports.get()
    assert report["error"] is None, report
    assert (report["runs"][0]["reason"], report["runs"][0]["exit_code"]) == ("exited", 0)
    lines = {one["name"]: one for one in report["mechanisms"]}
    for name in ("cgroup limits", "AppArmor", "network fence", "seccomp"):
        assert lines[name]["applied"], lines[name]
    record_property("limits", lines["cgroup limits"]["detail"])

    # Killed, it leaves nothing: systemd ends what is in the group, and starts it again.
    registry.ask("sleep 1000")
    await until(lambda: bool(runs()))
    await asyncio.to_thread(systemctl, "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    await until(lambda: runs() == [])
    registry.ask("echo again")
    report = await registry.reports.get()
    assert (report["error"], report["runs"][0]["log"]) == (None, "again\n")
    assert (state()["ActiveState"], state()["NRestarts"]) == ("active", "1")

    await asyncio.to_thread(systemctl, "stop", UNIT)
    assert (state()["ActiveState"], state()["Result"]) == ("inactive", "success")
    assert not GROUP.exists()
    assert sorted(GROUPS.glob("seatrial/*")) == elsewhere


def test_in_a_container_the_group_is_all_that_is_seen(record_property: Record) -> None:
    """With another process beside the worker, as a container's init or a shell is."""
    group = GROUPS / "container"
    group.mkdir()
    (GROUPS / "cgroup.subtree_control").write_text("+cpu +cpuset +io +memory +pids")
    (group / "memory.max").write_text(str(512 * MIB))
    with TemporaryDirectory(prefix="seatrial-container-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        write_layout(folder / "image", busybox_image(["/bin/sh", "-c", "echo inside"]))
        run = f"seatrial run --json oci:{folder}/image --state {folder}/state"
        see = "umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"
        script = f"{see} && {run}; code=$?; cat /proc/self/cgroup >&2; exit $code"
        enter = f"echo $$ > {group}/cgroup.procs && exec unshare --cgroup --mount sh -c '{script}'"
        done = subprocess.run(["sh", "-c", enter], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stderr
    report = json.loads(done.stdout)
    assert (report["error"], done.returncode) == (None, 0), report
    limits = next(one for one in report["mechanisms"] if one["name"] == "cgroup limits")
    record_property("limits", limits["detail"])
    assert limits["applied"]
    assert f"all runs together: memory {256 * MIB}" in limits["detail"]
    # The shell was taken along.
    assert done.stderr.splitlines()[-1] == "0::/seatrial-worker"
    for below in [path for path in group.rglob("*") if path.is_dir()][::-1]:
        below.rmdir()
    group.rmdir()
