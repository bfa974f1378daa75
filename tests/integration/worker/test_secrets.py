"""No secret is in reach of a run: not the worker's token, not the pull token of its own job."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.auth.apitokens import new_token
from tests.integration.worker.conftest import REPOSITORY, Yard
from tests.kit.images import busybox_image, file, make_layer
from tests.kit.sources import ROOT

HUNT = ROOT / "tests" / "hostile" / "attempts" / "hunt.c"
LOOKED = re.compile(
    r"looked at (\d+) processes, (\d+) files, (\d+) bytes, (\d+) ports, \d+ lines of sockets; (\d+) answered"
)


@pytest.fixture(scope="module")
def hunt(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The program that looks for tokens."""
    program: Path = tmp_path_factory.mktemp("hunt") / "hunt"
    subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o", program, HUNT], check=True)
    return program.read_bytes()


def test_only_what_the_image_brings_is_found(make_yard: Callable[..., Yard], hunt: bytes) -> None:
    yard = make_yard(trial_on_push="false", limits__wall_seconds="150")
    worker = yard.worker("one")
    worker.start()
    # What it finds of the image's own shows that it can find.
    in_environment, in_file = (
        new_token(),
        "eyJhbGciOiJFUzI1NiJ9." + new_token().removeprefix("seatrial_") + ".x",
    )
    layer = make_layer(
        file("bin/hunt", hunt, 0o755), file("etc/deep/planted", b"x" * 70_000 + in_file.encode() + b"\n")
    )
    image = busybox_image(
        ("/bin/hunt",),
        layers=(layer,),
        env=[f"PLANTED={in_environment}"],
        # The runtime comes and goes inside meanwhile.
        healthcheck={
            "Test": ["CMD-SHELL", "test -f /tmp/looked"],
            "Interval": 100_000_000,
            "StartPeriod": 150_000_000_000,
        },
    )
    yard.push(image, "hunt")
    # And the worker itself comes to a port of the run.
    spec = {"version": 1, "expect": {"healthcheck": True, "http": [{"port": 8080, "within_seconds": 140}]}}
    yard.call("POST", "/api/v1/trials", json={"image": f"{REPOSITORY}:hunt", "spec": spec})
    trial = yard.verdict("hunt")
    (run,) = trial["runs"]
    assert trial["verdict"] == "pass", trial
    looked = LOOKED.search(run["log"])
    assert looked is not None, run["log"]
    processes, files, size, ports, answered = (int(number) for number in looked.groups())
    assert processes > 10
    assert files > 100
    assert size > 10_000_000
    # Nobody but the program itself listens: not the registry either, which does on the host's loopback.
    assert (ports, answered) == (65535, 1)
    assert "visited\n" in run["log"]
    found = set(re.findall(r"found (\S+)", run["log"]))
    assert found == {in_environment, in_file}
    assert worker.token not in found
    # Nor does the record of the run, which people read, hold one.
    assert worker.token not in str(trial)


def test_a_secret_of_the_registry_reaches_the_run_and_no_reader(make_yard: Callable[..., Yard]) -> None:
    yard = make_yard()
    worker = yard.worker("one")
    worker.start()
    value = "kept for trials only"
    yard.push(busybox_image(("/bin/sh", "-c", 'echo "${#DB} $DB"; echo -n "$DB" | base64')), "kept")
    yard.call("POST", "/api/v1/secrets", json={"name": "DB", "value": value, "repository": REPOSITORY})
    spec = {
        "version": 1,
        "env": {"DB": {"secret": "DB"}},
        "expect": {"exit": 0, "log": [{"match": f"^{len(value)} k"}]},
    }
    body = {"image": f"{REPOSITORY}:kept", "spec": spec}
    yard.call("POST", "/api/v1/trials", json=body)
    trial = yard.verdict("kept")
    assert trial["verdict"] == "pass", trial
    assert trial["runs"][0]["log"] == f"{len(value)} ***\n***\n"
    assert value not in str(trial)
    assert value not in worker.log
    assert value not in yard.process.log.read_text()
