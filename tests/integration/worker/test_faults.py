"""Registries and workers that die, and workers that are told to end."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable

import pytest

from tests.integration.worker.conftest import REPOSITORY, Yard
from tests.kit.images import busybox_image
from tests.kit.worker import WorkerProcess, eventually, processes_with, worker_process

LEASE_SECONDS = 6


@pytest.fixture(scope="module")
def yard(make_yard: Callable[..., Yard]) -> Yard:
    """A registry that counts on workers to be back within seconds, and runs last as long as they like."""
    return make_yard(lease_seconds=str(LEASE_SECONDS), limits__alive_seconds="4")


def sleeper(seconds: str) -> tuple[tuple[str, ...], str]:
    """A command that sleeps, and how its process is told from all others."""
    marker = f"{seconds}.{secrets.randbelow(10**9):09d}"
    return ("sleep", marker), marker


def running(yard: Yard, worker: WorkerProcess, tag: str, marker: str) -> None:
    """Wait until the image's command runs."""
    eventually(lambda: processes_with(marker) != [], what=f"{tag} runs", worker=worker)


def test_a_worker_killed_in_the_middle_of_a_run(yard: Yard) -> None:
    worker = yard.worker("killed")
    worker.start()
    command, marker = sleeper("600")
    yard.push(busybox_image(command), "killed")
    running(yard, worker, "killed", marker)
    worker.kill()
    assert yard.newest("killed")["state"] == "running"
    # The same worker comes back, removes what it had left, and gets the part again.
    worker.start()
    eventually(lambda: worker.log.count("worker starts") == 2, what="the worker is back")
    trial = yard.verdict("killed")
    assert (trial["verdict"], trial["parts"][0]["attempts"]) == ("pass", 2)
    worker.stop()
    assert worker.left_behind() == []
    assert processes_with(marker) == []


def test_a_killed_worker_s_run_is_taken_over_by_another(yard: Yard) -> None:
    first, second = yard.worker("first"), yard.worker("second")
    first.start()
    command, marker = sleeper("600")
    yard.push(busybox_image(command), "taken")
    running(yard, first, "taken", marker)
    first.kill()
    second.start()
    trial = yard.verdict("taken")
    part = trial["parts"][0]
    assert (trial["verdict"], part["worker"], part["attempts"]) == ("pass", "second", 2)
    second.stop()
    # What the first one left is removed when it starts again.
    first.start()
    eventually(lambda: first.log.count("worker starts") == 2, what="the worker is back")
    first.stop()
    assert first.left_behind() == []
    assert second.left_behind() == []
    assert processes_with(marker) == []


def test_a_registry_killed_and_back_while_a_worker_runs(yard: Yard) -> None:
    worker = yard.worker("patient")
    worker.start()
    command, marker = sleeper("600")
    yard.push(busybox_image(command), "patient")
    running(yard, worker, "patient", marker)
    yard.process.kill()
    yard.process.start()
    trial = yard.verdict("patient")
    # Back before the lease had run out, or after: then the part was tried again.
    assert trial["verdict"] == "pass"
    yard.push(busybox_image(("/bin/sh", "-c", "echo after")), "after")
    assert yard.verdict("after")["verdict"] == "pass"
    worker.stop()
    assert worker.left_behind() == []


def test_a_registry_that_is_away_ends_the_run_with_the_lease(yard: Yard) -> None:
    worker = yard.worker("lonely")
    worker.start()
    command, marker = sleeper("600")
    spec = {"version": 1, "limits": {"alive_seconds": 200, "wall_seconds": 300}, "expect": {"alive": True}}
    yard.push(busybox_image(("true",)), "lonely")
    yard.verdict("lonely")
    body = {"image": f"{REPOSITORY}:lonely", "spec": spec | {"command": list(command)}}
    yard.call("POST", "/api/v1/trials", json=body)
    running(yard, worker, "lonely", marker)
    yard.process.kill()
    try:
        eventually(lambda: processes_with(marker) == [], what="the run ends", worker=worker)
        eventually(lambda: "lease lost" in worker.log, what="it knows", worker=worker)
        worker.stop()
        assert worker.left_behind() == []
    finally:
        yard.process.start()
    # Nobody else shall spend minutes on it.
    block = {"image": f"{REPOSITORY}:lonely", "reason": "takes too long"}
    yard.call("POST", "/api/v1/gate/block", json=block)


def test_a_drained_worker_finishes_its_run_and_ends(yard: Yard) -> None:
    worker = yard.worker("drained")
    worker.start()
    command, marker = sleeper("600")
    yard.push(busybox_image(command), "drained")
    running(yard, worker, "drained", marker)
    worker.send_signal(signal.SIGTERM)
    # Only now: pushed before, on a slow machine, it could be claimed when the first has ended.
    yard.push(busybox_image(("/bin/sh", "-c", "echo for somebody else")), "later")
    assert worker.wait() == 0
    trial = yard.newest("drained")
    assert (trial["verdict"], trial["parts"][0]["attempts"]) == ("pass", 1)
    assert yard.newest("later")["state"] == "queued"
    assert worker.left_behind() == []
    other = yard.worker("relief")
    other.start()
    assert yard.verdict("later")["verdict"] == "pass"
    other.stop()


@pytest.mark.parametrize("arguments", [("--grace", "0.2"), ()], ids=["grace", "second-signal"])
def test_a_worker_in_a_hurry_gives_its_run_back(yard: Yard, arguments: tuple[str, ...]) -> None:
    worker = yard.worker(f"hasty{len(arguments)}")
    worker.start(*arguments)
    command, marker = sleeper("600")
    tag = f"hasty{len(arguments)}"
    yard.push(busybox_image(command), tag)
    running(yard, worker, tag, marker)
    worker.send_signal(signal.SIGTERM)
    if not arguments:
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
    assert worker.wait() == 0
    assert yard.newest(tag)["state"] == "queued"
    assert worker.left_behind() == []
    assert processes_with(marker) == []
    other = yard.worker(f"next{len(arguments)}")
    other.start()
    assert yard.verdict(tag)["parts"][0]["attempts"] == 2
    other.stop()


def test_a_worker_drained_by_the_registry_ends(yard: Yard) -> None:
    worker = yard.worker("told")
    worker.start()
    eventually(lambda: "worker starts" in worker.log, what="the worker starts")
    yard.call("PUT", "/api/v1/workers/told/drain")
    assert worker.wait() == 0
    assert "drained by the registry" in worker.log


def test_a_worker_that_the_registry_does_not_know_ends_with_a_reason(yard: Yard) -> None:
    with worker_process(yard.registry.url, "seatrial_nonsense") as worker:
        worker.start()
        assert worker.wait() == 2
        assert "the registry refuses this worker" in worker.log
        assert "seatrial_nonsense" not in worker.log


def test_two_workers_do_not_share_a_state_folder(yard: Yard) -> None:
    worker = yard.worker("alone")
    worker.start()
    eventually(lambda: "worker starts" in worker.log, what="the worker starts")
    second = WorkerProcess(worker.folder, worker.url, worker.token)
    second.start()
    assert second.wait() == 2
    assert "another worker uses" in worker.log
    worker.stop()


def test_a_worker_waits_for_a_registry_that_is_not_there_yet(yard: Yard) -> None:
    with worker_process("http://127.0.0.1:9", "seatrial_x") as worker:
        worker.start()
        eventually(lambda: worker.log.count("waiting for the registry") >= 2, what="it tries again")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait() == 0
