"""Probes look from outside, at real servers inside."""

from __future__ import annotations

import time

import pytest

from registry.oci.imageconfig import Healthcheck, Port
from tests.kit.runs import QUICK, Harbour, image_config, seen

SLOW = QUICK.model_copy(update={"alive_seconds": 50.0})
"""For what ends, or is seen, before."""
SERVE = "mkdir -p /www && echo hello > /www/index.html && exec httpd -f -p {port} -h /www"


async def test_tcp_of_an_exposed_port(port: Harbour) -> None:
    config = image_config(
        "/bin/sh", "-c", "sleep 0.3; " + SERVE.format(port=80), exposed_ports=(Port(81), Port(80))
    )
    done = await port.run(config, limits=SLOW)
    assert (done.run.reason, seen(done)) == ("stopped", [True])
    assert done.run.observations[0].seen == "port 80 accepts"


async def test_tcp_that_nobody_serves(port: Harbour) -> None:
    # A first look that had no answer in time would say that.
    tcp = [{"port": 80, "within_seconds": 3}]
    done = await port.sh("sleep 600", spec={"expect": {"tcp": tcp}})
    assert seen(done) == [False]
    assert "Connection refused" in done.run.observations[0].seen


async def test_tcp_of_a_command_that_ends(port: Harbour) -> None:
    done = await port.sh("exit 1", spec={"expect": {"tcp": [{"port": 80}]}}, limits=SLOW)
    assert seen(done) == [False]
    assert "exit code 1" in done.run.observations[0].seen


async def test_http(port: Harbour) -> None:
    expect = {
        "http": [
            {"port": 8080, "body": "^hel+o", "within_seconds": 50},
            {"port": 8080, "path": "/none", "status": 404, "within_seconds": 50},
            {"port": 8080, "status": 201},
            {"port": 8080, "body": "bye"},
            {"port": 9090},
        ]
    }
    limits = QUICK.model_copy(update={"alive_seconds": 5.0})
    done = await port.sh(SERVE.format(port=8080), spec={"expect": expect}, limits=limits)
    assert seen(done) == [True, True, False, False, False]
    assert done.run.observations[2].seen == "HTTP 200"


@pytest.mark.parametrize(
    "answer",
    [
        "cat /dev/zero",
        "printf 'HTTP/1.1 200 OK\\r\\n'; cat /dev/zero",
        "yes 'HTTP/1.1 200 OK: x'",
        "sleep 60",
    ],
)
async def test_hostile_http_servers_are_not_met(port: Harbour, answer: str) -> None:
    script = f'while :; do nc -l -p 80 -e sh -c "{answer}"; done'
    limits = QUICK.model_copy(update={"alive_seconds": 1.0})
    started = time.monotonic()
    done = await port.sh(script, spec={"expect": {"http": [{"port": 80}]}}, limits=limits)
    assert seen(done) == [False]
    assert time.monotonic() - started < 90


async def test_the_host_is_not_what_is_probed(port: Harbour) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        done = await port.sh("sleep 600", spec={"expect": {"tcp": [{"port": number}]}})
    assert seen(done) == [False]


def health(*command: str, shell: bool = True, **members: float) -> Healthcheck:
    return Healthcheck(command=command, shell=shell, **members)  # type: ignore[arg-type]


async def test_healthcheck(port: Harbour) -> None:
    check = health("test -e /ready && test $(id -u) = 12 && grep -q 'CapBnd:.*0000$' /proc/self/status")
    config = image_config(
        "/bin/sh", "-c", "sleep 0.4; touch /tmp/ready; sleep 600", healthcheck=check, user="12:12"
    )
    done = await port.run(config, limits=QUICK.model_copy(update={"wall_seconds": 5}))
    assert seen(done) == [False]
    assert done.run.reason == "timeout"
    check = health("test -e /tmp/ready && grep -q 'Seccomp:.*2' /proc/self/status && exit 0; exit 1")
    done = await port.run(image_config(*config.cmd, healthcheck=check, user="12:12"), limits=SLOW)
    assert (seen(done), done.run.reason) == ([True], "stopped")


async def test_a_healthcheck_in_a_full_run_says_nothing_of_the_image(port: Harbour) -> None:
    limits = QUICK.model_copy(update={"pids": 12, "wall_seconds": 6})
    check = health("test -e /full && ls / | cat", timeout_seconds=2.0)
    fill = "(while :; do sleep 1000 & done); : > /full; exec sleep 600"
    config = image_config("/bin/sh", "-c", fill, healthcheck=check)
    done = await port.run(config, limits=limits)
    assert seen(done) == [None], done.run.observations
    assert "no process" in done.run.observations[0].seen


async def test_a_healthcheck_runs_in_the_working_folder(port: Harbour) -> None:
    script = "touch mark; sleep 600"
    config = image_config(
        "/bin/sh",
        "-c",
        script,
        working_dir="/srv/app",
        healthcheck=health("test -e mark && test $PWD = /srv/app"),
    )
    assert seen(await port.run(config)) == [True]


async def test_a_working_folder_that_turns_into_a_link(port: Harbour) -> None:
    # With a healthcheck started in it by the runtime this was CVE-2024-21626 for images that already run.
    script = "cd /; rmdir /srv/app; ln -s /proc/self/fd/7 /srv/app; touch /ready; sleep 600"
    check = health("echo WON", interval_seconds=0.2, retries=1)
    config = image_config("/bin/sh", "-c", script, working_dir="/srv/app", healthcheck=check)
    done = await port.run(config)
    observed = done.run.observations[0]
    assert (observed.met, "WON" in observed.seen) in [(False, False), (True, True)]
    direct = health("/bin/pwd", shell=False)
    assert seen(await port.run(image_config("/bin/sh", "-c", script, healthcheck=direct))) == [True]


async def test_unhealthy_after_the_retries(port: Harbour) -> None:
    check = health("echo sick; exit 1", interval_seconds=0.2, retries=2)
    done = await port.run(image_config("/bin/sleep", "600", healthcheck=check))
    assert seen(done) == [False]
    assert done.run.observations[0].seen == "unhealthy; last: exit code 1: sick"


async def test_a_healthcheck_that_hangs_is_ended(port: Harbour) -> None:
    check = health("sleep", "1000", shell=False, timeout_seconds=0.3, interval_seconds=0.1, retries=1)
    done = await port.run(image_config("/bin/sleep", "600", healthcheck=check))
    assert seen(done) == [False]
    assert done.run.observations[0].seen == "unhealthy; last: no answer in time"


async def test_a_healthcheck_that_leaves_a_daemon(port: Harbour) -> None:
    check = health("sleep 1000 & exit 0")
    done = await port.run(image_config("/bin/sleep", "600", healthcheck=check))
    assert seen(done) == [True]


async def test_a_healthcheck_that_cannot_be_started_is_unknown(port: Harbour) -> None:
    check = health("/bin/none", shell=False)
    done = await port.run(
        image_config("/bin/sleep", "600", healthcheck=check),
        limits=QUICK.model_copy(update={"wall_seconds": 4.0}),
    )
    assert seen(done) == [None]
    assert "could not be started" in done.run.observations[0].seen
