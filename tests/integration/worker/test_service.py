"""A worker as a service: several runs within one budget, even processors, and what it tells Prometheus."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sandbox.budget import Room
from sandbox.errors import SandboxError
from sandbox.metrics import WorkerMetrics, serving
from sandbox.runtimes.cgroups import find_cgroups, group_names
from sandbox.runtimes.readings import read_usage
from tests.integration.worker.conftest import REPOSITORY, Yard
from tests.kit.images import Image, busybox_image
from tests.kit.worker import WorkerProcess, end_sleeps, eventually, processes_with, sleepers

MIB = 1024 * 1024
SETTINGS = {"limits__memory_bytes": str(64 * MIB), "trial_on_push": "false"}


@pytest.fixture(scope="module")
def yard(make_yard: Callable[..., Yard]) -> Yard:
    """A registry whose runs take 64 MiB each, and that tries what it is asked to."""
    return make_yard(**SETTINGS)


def tried(yard: Yard, image: Image, tag: str, expect: dict[str, Any]) -> None:
    """Push an image, and have it tried."""
    yard.push(image, tag)
    spec = {"version": 1, "expect": expect}
    yard.call("POST", "/api/v1/trials", json={"image": f"{REPOSITORY}:{tag}", "spec": spec})


def told(worker: WorkerProcess) -> dict[str, float]:
    """The worker's numbers, by name and labels."""
    (where,) = re.findall(r'"at": "(http://[^"]+)"', worker.log)
    with urllib.request.urlopen(where, timeout=30) as response:
        lines = response.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def numbers(yard: Yard) -> str:
    """The registry's numbers, as Prometheus reads them."""
    with urllib.request.urlopen(f"{yard.registry.url}/metrics", timeout=30) as response:
        return str(response.read().decode())


def steps(trial: Any) -> list[str]:
    return [step["name"] for step in trial["parts"][0]["record"]["steps"]]


def used(worker: WorkerProcess) -> dict[str, float]:
    """Seconds of a processor that each run has had so far, by the name of its group."""
    cgroups, parent = find_cgroups(), worker.cgroup_parent
    return {
        name: read_usage(cgroups, f"{parent}/{name}").cpu_seconds or 0.0
        for name in group_names(cgroups, parent)
    }


def shells(marker: str) -> list[int]:
    """Those that run a script with the marker in it."""
    return [pid for pid in processes_with(marker) if Path(f"/proc/{pid}/exe").resolve().name == "busybox"]


def test_runs_at_once_within_the_budget_and_what_is_told_of_them(yard: Yard) -> None:
    worker = yard.worker("budget", slots=4)
    worker.start("--total-memory-bytes", str(128 * MIB), "--metrics", "127.0.0.1:0")
    eventually(lambda: "tells Prometheus" in worker.log, what="the endpoint is up", worker=worker)
    marker = f"600.{secrets.randbelow(10**9):09d}"
    for number in range(3):
        command = ("/bin/sh", "-c", f"sleep {marker}; exit 0")
        tried(yard, busybox_image(command, env=[f"N={number}"]), f"b{number}", {"exit": 0})
    # Two run as long as they are let, and so the third waits.
    eventually(lambda: len(sleepers(marker)) == 2, what="two run", worker=worker)
    eventually(
        lambda: told(worker)["seatrial_worker_runs_waiting"] == 1, what="the third waits", worker=worker
    )
    assert told(worker)["seatrial_worker_runs_in_progress"] == 2
    assert len(sleepers(marker)) == 2
    end_sleeps(marker)
    eventually(lambda: end_sleeps(marker), what="the third runs", worker=worker)
    trials = [yard.verdict(f"b{number}") for number in range(3)]
    assert [trial["verdict"] for trial in trials] == ["pass"] * 3
    assert sum("wait for room" in steps(trial) for trial in trials) == 1
    # What a spec asks for, and what all together have not.
    spec = {"version": 1, "limits": {"memory_bytes": 129 * MIB}, "expect": {"exit": 0}}
    yard.call("POST", "/api/v1/trials", json={"image": f"{REPOSITORY}:b0", "spec": spec})
    refused = 'seatrial_worker_runs_total{reason="worker-error",verdict="error"}'
    eventually(lambda: told(worker).get(refused, 0) >= 1, what="it is refused", worker=worker)
    assert "129.0 MiB of memory" in yard.newest("b0")["parts"][0]["reason"]
    end = told(worker)
    assert end['seatrial_worker_runs_total{reason="exited",verdict="pass"}'] == 3
    assert end['seatrial_worker_step_seconds_count{step="wait for room"}'] == 1
    assert end["seatrial_worker_slots"] == 4
    assert end["seatrial_worker_cache_bytes"] > MIB
    assert end["seatrial_worker_disk_free_bytes"] > MIB
    assert abs(end["seatrial_worker_registry_contact_timestamp_seconds"] - time.time()) < 60
    # The other end of it.
    assert 'seatrial_trial_verdicts_total{reason="exited",verdict="pass"} 3.0' in numbers(yard)
    # Looked at every few seconds.
    alive = re.compile(r'seatrial_workers\{state="alive"\} [1-9]')
    eventually(lambda: alive.search(numbers(yard)) is not None, what="it is counted", worker=worker)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert worker.left_behind() == []


def test_a_greedy_run_gets_no_more_of_a_processor_than_the_next(make_yard: Callable[..., Yard]) -> None:
    # Its own, where no trial of another test comes again; and time to burn, on a busy machine too.
    yard = make_yard(**SETTINGS, limits__wall_seconds="240")
    worker = yard.worker("even", slots=2)
    worker.start("--cpu-set", "0", "--metrics", "127.0.0.1:0")
    eventually(lambda: "tells Prometheus" in worker.log, what="the endpoint is up", worker=worker)
    marker = f"{secrets.randbelow(10**9):09d}"
    burn = f": {marker}; while :; do :; done"
    tried(yard, busybox_image(("/bin/sh", "-c", burn)), "one", {"exit": 0})
    eight = f"for i in 1 2 3 4 5 6 7 8; do ({burn}) & done; wait"
    tried(yard, busybox_image(("/bin/sh", "-c", eight)), "eight", {"exit": 0})
    eventually(lambda: len(shells(marker)) == 10, what="all of both burn", worker=worker)
    before = used(worker)
    answered = []
    while sum(used(worker).values()) - sum(before.values()) < 4:
        started = time.monotonic()
        assert told(worker)["seatrial_worker_runs_in_progress"] == 2
        answered.append(time.monotonic() - started)
        time.sleep(0.1)
    less, more = sorted(total - before[name] for name, total in used(worker).items())
    # By processes it would be eight to one.
    assert more / less < 3
    assert sorted(answered)[len(answered) // 2] < 5, "the worker itself still answers"
    for pid in shells(marker):
        with suppress(ProcessLookupError):  # they end with the first of a run
            os.kill(pid, signal.SIGKILL)
    for tag in ("one", "eight"):
        trial = yard.verdict(tag)
        assert trial["runs"][0]["cpu_seconds"] > 1
        (line,) = (one for one in trial["parts"][0]["record"]["mechanisms"] if one["name"] == "cgroup limits")
        assert re.search(r"cpu weight (1024|100) as all runs", line["detail"])
    worker.stop()
    assert worker.left_behind() == []


async def test_served_at_a_port_and_at_a_socket(tmp_path: Path) -> None:
    metrics = WorkerMetrics(Room(), slots=3, runtime="runc 1.1.5")
    async with serving(metrics, ("127.0.0.1", 0)) as where, aiohttp.ClientSession() as session:
        async with session.get(where) as response:
            assert response.status == 200
            assert "seatrial_worker_slots 3.0" in await response.text()
        port = int(where.rsplit(":", 1)[1].split("/")[0])
        with pytest.raises(SandboxError, match=f"cannot listen at 127.0.0.1:{port}: "):
            async with serving(metrics, ("127.0.0.1", port)):
                pass
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left_by_a_killed_one:
        left_by_a_killed_one.bind(str(path))
    async with serving(metrics, path) as where:
        assert where == f"unix:{path}"
        connector = aiohttp.UnixConnector(str(path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://worker/metrics") as response,
        ):
            assert response.status == 200
    with pytest.raises(SandboxError, match="cannot listen at"):
        async with serving(metrics, tmp_path / "no" / "socket"):
            pass
