"""From push to verdict with a real worker: what each smoke test sees."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.contract.runspec import IMAGE_SPEC_TYPE
from tests.integration.worker.conftest import REPOSITORY, Yard
from tests.kit.images import busybox_image, make_index, make_referrer
from tests.kit.warm import run_seatrial
from tests.kit.worker import WorkerProcess, end_sleeps, eventually

SERVER = (
    "/bin/sh",
    "-c",
    "mkdir /tmp/www && echo fine > /tmp/www/index.html && echo starting && exec httpd -f -p 8080 -h /tmp/www",
)


@pytest.fixture(scope="module")
def yard(make_yard: Callable[..., Yard]) -> Yard:
    return make_yard(limits__alive_seconds="8")


@pytest.fixture(scope="module")
def worker(yard: Yard) -> WorkerProcess:
    started = yard.worker("one", slots=2)
    started.start()
    return started


def only_run(trial: Any) -> Any:
    (run,) = trial["runs"]
    return run


def test_a_good_image_passes(yard: Yard, worker: WorkerProcess) -> None:
    yard.push(busybox_image(("/bin/sh", "-c", "echo hello; echo there >&2")), "good")
    trial = yard.verdict("good")
    assert trial["verdict"] == "pass"
    assert trial["reason"].startswith("the command exits 0 or is alive after 8 s; seen: exit code 0 after ")
    run = only_run(trial)
    assert (run["exit_code"], run["reason"], run["log"]) == (0, "exited", "hello\nthere\n")
    part = trial["parts"][0]
    assert (part["worker"], part["attempts"]) == ("one", 1)
    assert part["record"]["runtime"].split()[0] in ("runc", "crun", "runsc")
    steps = [step["name"] for step in part["record"]["steps"]]
    assert steps[:4] == ["pull", "unpack", "scan", "mount"]
    assert (part["scan"]["state"], part["scan"]["truncated"]) == ("taken", False)
    applied = {one["name"]: one["applied"] for one in part["record"]["mechanisms"]}
    assert applied["user namespace"]
    assert applied["seccomp"]


def test_a_bad_image_fails_with_its_exit_code_and_last_lines(yard: Yard, worker: WorkerProcess) -> None:
    yard.push(
        busybox_image(("/bin/sh", "-c", "echo one; nc 192.0.2.1 80; echo cannot open the door >&2; exit 3")),
        "bad",
    )
    trial = yard.verdict("bad")
    assert trial["verdict"] == "fail"
    assert "exit code 3" in trial["reason"]
    run = only_run(trial)
    assert (run["exit_code"], run["log"].splitlines()[-1]) == (3, "cannot open the door")
    # It has no network: what it tried is seen all the same.
    (use,) = trial["parts"][0]["record"]["runs"]
    assert use["outbound"] == [
        {"address": "192.0.2.1", "port": 80, "protocol": "tcp", "attempts": 1, "permitted": False}
    ]
    assert use["samples"]


def test_output_is_seen_while_the_image_runs(yard: Yard, worker: WorkerProcess, tmp_path: Path) -> None:
    yard.push(busybox_image(("/bin/true",)), "slow")
    token, spec = tmp_path / "token", tmp_path / "spec.json"
    token.write_text(yard.registry.token)
    marker = f"600.{secrets.randbelow(10**9):09d}"
    command = f"printf 'na\\303'; sleep 1.2; printf '\\257ve\\n\\033[2Jdone\\n'; sleep {marker}; exit 0"
    asked = {"version": 1, "command": ["/bin/sh", "-c", command], "expect": {"exit": 0}}
    spec.write_text(json.dumps(asked))
    trial = (sys.executable, "-m", "registry.main", "trial")
    where = ("--server", yard.registry.url, "--token-file", str(token))
    start = (*trial, "start", f"{REPOSITORY}:slow", "--spec", str(spec), "--follow", *where)
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline() == "na\u00efve\n"
        newest = yard.newest("slow")
        assert newest["state"] == "running", "seen before its end"
        eventually(lambda: end_sleeps(marker), what="the command is let go", worker=worker)
        assert watching.stdout.read() == "?[2Jdone\n"
        said = watching.stderr.read().splitlines()
    assert watching.returncode == 0
    assert said[0] == f"trial {newest['id']}"
    assert "linux/amd64: running by worker one" in said
    assert "== linux/amd64 smoke ==" in said
    assert said[-1].startswith("pass: ")
    for more in ((), ("--follow",)):
        log = run_seatrial("trial", "log", newest["id"], *more, *where, environment=os.environ)
        assert (log.returncode, log.stdout) == (0, "na\u00efve\n?[2Jdone\n")


def test_a_service_that_stays_up_passes(yard: Yard, worker: WorkerProcess) -> None:
    yard.push(busybox_image(("sleep", "600")), "stays")
    trial = yard.verdict("stays")
    assert (trial["verdict"], only_run(trial)["reason"]) == ("pass", "stopped")


def test_a_healthcheck_decides_where_there_is_one(yard: Yard, worker: WorkerProcess) -> None:
    healthy = ["CMD-SHELL", "test -f /tmp/ready"]
    yard.push(busybox_image(("/bin/sh", "-c", "touch /tmp/ready; sleep 600"), healthcheck=healthy), "healthy")
    check = {"Test": ["CMD", "false"], "Interval": 100_000_000, "Retries": 2}
    yard.push(busybox_image(("sleep", "600"), healthcheck=check), "sick")
    good, bad = yard.verdict("healthy"), yard.verdict("sick")
    assert good["verdict"] == "pass"
    assert good["reason"].startswith("the image's HEALTHCHECK succeeds; seen: ")
    assert bad["verdict"] == "fail"


def test_an_exposed_port_must_accept(yard: Yard, worker: WorkerProcess) -> None:
    yard.push(busybox_image(SERVER, ports=["8080/tcp"]), "listens")
    yard.push(busybox_image(("sleep", "600"), ports=["8080/tcp"]), "deaf")
    good, bad = yard.verdict("listens"), yard.verdict("deaf")
    assert good["verdict"] == "pass"
    assert good["reason"].startswith("TCP port 8080 accepts within 8 s; seen: ")
    assert bad["verdict"] == "fail"


def test_a_run_spec_asks_for_more(yard: Yard, worker: WorkerProcess) -> None:
    yard.push(busybox_image(SERVER), "spec")
    yard.verdict("spec")
    asked: list[tuple[dict[str, Any], str]] = [
        (
            {
                "http": [{"port": 8080, "status": 200, "body": "^fine", "within_seconds": 50}],
                "log": [{"match": "^start"}],
            },
            "pass",
        ),
        ({"http": [{"port": 8080, "path": "/gone", "within_seconds": 3}]}, "fail"),
        ({"log": [{"match": "never written"}], "alive": 3}, "fail"),
    ]
    for expect, verdict in asked:
        spec = {"version": 1, "limits": {"wall_seconds": 60 if verdict == "pass" else 5}, "expect": expect}
        body = {"image": f"{REPOSITORY}:spec", "spec": spec}
        started = yard.call("POST", "/api/v1/trials", json=body)
        trial = yard.verdict("spec")
        assert (trial["id"], trial["verdict"]) == (started["id"], verdict), trial["reason"]


def test_what_is_attached_to_an_image_is_expected_of_it_and_stands_in_its_record(
    yard: Yard, worker: WorkerProcess
) -> None:
    yard.call("POST", "/api/v1/repositories", json={"name": "team/asks", "image_spec_allowed": True})
    image = busybox_image(("/bin/sh", "-c", "echo started"))
    attached = make_referrer(
        image.digest,
        b"version: 1\nexpect: {log: [{match: ready}]}\n",
        artifact_type=IMAGE_SPEC_TYPE,
        media_type="application/yaml",
    )
    for one in (attached, image):
        yard.push(one, one.digest, repository="team/asks")
    query = {"image": "team/asks", "digest": image.digest, "wait": "60"}
    trial = yard.call("GET", "/api/v1/trials", params=query)[0]
    assert trial["verdict"] == "fail"
    assert trial["reason"].startswith("expected: the log matches 'ready'; seen: ")
    (record,) = [
        one for one in trial["parts"][0]["record"]["mechanisms"] if one["name"] == "attached run spec"
    ]
    assert (record["applied"], record["detail"]) == (True, attached.digest)


def test_a_spec_s_command_environment_and_user(yard: Yard, worker: WorkerProcess) -> None:
    yard.push(busybox_image(("false",)), "other")
    yard.verdict("other")
    spec = {
        "version": 1,
        "command": ["/bin/sh", "-c", "echo $MODE-$(id -u); exit 7"],
        "env": {"MODE": "quiet"},
        "user": "app",
        "expect": {"exit": 7, "log": [{"match": "^quiet-1000$"}]},
    }
    yard.call("POST", "/api/v1/trials", json={"image": f"{REPOSITORY}:other", "spec": spec})
    trial = yard.verdict("other")
    assert trial["verdict"] == "pass", trial["reason"]


@pytest.mark.parametrize(
    ("tag", "image", "reason"),
    [
        ("nothing", busybox_image((), entrypoint=()), "no-command"),
        ("missing", busybox_image(("/no/such/program",)), "start-failed"),
        ("nobody", busybox_image(user="stranger"), "user-unknown"),
    ],
)
def test_what_cannot_be_run_is_an_error_with_a_reason(
    yard: Yard, worker: WorkerProcess, tag: str, image: Any, reason: str
) -> None:
    yard.push(image, tag)
    trial = yard.verdict(tag)
    assert trial["verdict"] == "error"
    assert trial["reason"].startswith(f"{reason}: ")
    assert "Traceback" not in trial["reason"]
    assert "/tmp/" not in trial["reason"]


def test_an_index_is_tried_for_the_platforms_that_are_run(yard: Yard, worker: WorkerProcess) -> None:
    here = busybox_image(("/bin/sh", "-c", "exit 0"))
    index = make_index(here, busybox_image(("true",), platform="linux/s390x"))
    yard.push(index, "index")
    trial = yard.verdict("index")
    assert trial["verdict"] == "pass"
    assert sorted((part["platform"], part["verdict"]) for part in trial["parts"]) == [
        ("linux/amd64", "pass"),
        ("linux/s390x", "unsupported"),
    ]


def test_isolation_is_told_demanded_and_waited_for(yard: Yard, worker: WorkerProcess) -> None:
    yard.push(busybox_image(("/bin/sh", "-c", "echo before")), "before")
    policy = f"/api/v1/repositories/{REPOSITORY.replace('/', '%2F')}"
    yard.call("PATCH", policy, json={"run_spec": {"version": 1, "require": ["seccomp", "pivot_root"]}})
    try:
        yard.push(busybox_image(("/bin/sh", "-c", "echo demanding")), "demanding")
        assert yard.verdict("demanding")["verdict"] == "pass"
        told = yard.call("GET", "/api/v1/workers/one")["mechanisms"]
        assert {"seccomp", "pivot_root", "user namespace"} <= set(told)
        assert "egress" not in told
        yard.call("PATCH", policy, json={"run_spec": {"version": 1, "require": ["egress"]}})
        digest = yard.push(busybox_image(("/bin/sh", "-c", "echo waiting")), "waiting")
        asked = {"image": REPOSITORY, "digest": digest}
        (trial,) = yard.call("GET", "/api/v1/trials", params=asked)
        assert trial["reason"] == "waits for a worker that has egress: none of 1 has"
    finally:
        yard.call("PATCH", policy, json={"run_spec": None})


def test_nothing_is_left_and_no_token_was_logged(yard: Yard, worker: WorkerProcess) -> None:
    yard.push(busybox_image(("/bin/sh", "-c", "echo last")), "last")
    yard.verdict("last")
    worker.stop()
    assert worker.left_behind() == []
    assert worker.token not in worker.log
    assert "eyJ" not in worker.log  # how every registry token begins
    assert "Traceback" not in worker.log
