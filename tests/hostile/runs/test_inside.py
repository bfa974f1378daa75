"""Commands that are run inside, files that are looked at from outside, and stops that are asked for."""

from __future__ import annotations

import re
import time
from typing import Any

from registry.contract.specfile import parse_run_spec
from tests.kit.runs import MIB, QUICK, Harbour, seen
from tests.kit.sources import ROOT

SLOW = QUICK.model_copy(update={"alive_seconds": 8.0})
"""For what must not come true: it has been looked at by then, also where the machine is busy."""
MUST = {"within_seconds": 50}


def sh(script: str, **members: Any) -> dict[str, Any]:
    return {"command": ["/bin/sh", "-c", script], **members}


async def test_commands_inside(port: Harbour) -> None:
    expect = {
        "exec": [
            sh("test -e /tmp/ready", **MUST),
            {"command": ["cat", "/tmp/ready"], "match": "^7 and [0-9]+$", **MUST},
            sh("exit 9", exit=9, **MUST),
            sh("echo no; exit 3"),
            {"command": ["cat", "/tmp/ready"], "match": "eight"},
            {"command": ["/bin/none"]},
            sh(
                "grep -q 'CapBnd:.*0000$' /proc/self/status && grep -q 'Seccomp:.*2' /proc/self/status",
                **MUST,
            ),
            sh("test $PWD = / && test $(id -u) = 12 && test $$ != 1 && echo $OWN", match="^mine$", **MUST),
        ]
    }
    done = await port.sh(
        "sleep 0.5; echo 7 and 8 > /tmp/ready; sleep 600",
        spec={"env": {"OWN": "mine"}, "expect": expect},
        limits=SLOW,
        user="12:12",
    )
    assert seen(done) == [True, True, True, False, False, False, True, True], done.run.observations
    texts = [one.seen for one in done.run.observations]
    assert texts[3] == "exit code 3: no"
    assert texts[4] == "exit code 0: 7 and 8, but its output does not match"
    assert texts[5] == "it cannot be run: there is no such file in the image"
    assert done.run.observations[2].expectation == "\"/bin/sh -c 'exit 9'\" exits 9 within 50 s"


async def test_commands_that_are_as_hostile_as_their_image(port: Harbour) -> None:
    """One that never ends, one that floods, one that leaves a daemon, and an image that replaces its own."""
    limits = QUICK.model_copy(update={"alive_seconds": 2.0})
    expect = {
        "exec": [
            sh("trap '' TERM INT HUP; while :; do sleep 1; done"),
            sh("head -c 5000000 /dev/zero | tr '\\0' x; exit 4", exit=4, match="^x+$", **MUST),
            sh("yes"),
            sh("(setsid sleep 1000 &); echo started", match="started", **MUST),
            {"command": ["/bin/check"]},
        ]
    }
    started = time.monotonic()
    script = "ln -sf /proc/1/fd/0 /bin/check; sleep 600"
    done = await port.sh(script, spec={"expect": expect}, limits=limits)
    assert seen(done)[:4] == [False, True, False, True], done.run.observations
    assert seen(done)[4] is not True
    assert done.run.observations[0].seen == "no answer in time"
    assert time.monotonic() - started < 100


async def test_no_room_for_a_command_is_unknown(port: Harbour) -> None:
    # What holds a look up inside gVisor is not seen: it needs the time to say so itself.
    limits = QUICK.model_copy(update={"pids": 12, "alive_seconds": 8.0 if port.own_kernel else 4.0})
    fill = "(while :; do sleep 1000 & done); : > /full; exec sleep 600"
    done = await port.sh(fill, spec={"expect": {"exec": [sh("test -e /full && ls / | cat")]}}, limits=limits)
    assert seen(done) == [None], done.run.observations


async def test_files(port: Harbour) -> None:
    root = port.rootfs()
    host = port.folder / "host"
    host.write_text("secret of the host")
    (root / "to-host").symlink_to(host)
    (root / "to-etc").symlink_to("/etc")
    (root / "up").symlink_to("../../../../../../etc/hostname")
    (root / "circle").symlink_to("circle")
    (root / "to-dev").symlink_to("/dev/null")
    with (root / "sparse").open("wb") as file:
        file.truncate(5000 * MIB)
    port.own(root)
    script = """
    sleep 0.5; mkdir -p /out /closed; echo result 42 > /out/r; chmod 640 /out/r; chmod 700 /closed
    echo x > /closed/f; mkfifo /fifo; ln -s /out/r /out/l; sleep 1000
    """
    questions: list[tuple[dict[str, Any], bool | None, str]] = [
        ({"path": "/out/r"}, True, "a file of 10 bytes, mode 0640"),
        ({"path": "//out/./r", "kind": "file", "mode": "0640", "match": "result [0-9]+"}, True, "matches"),
        ({"path": "/out/r", "match": "none"}, False, "does not match"),
        ({"path": "/out/r", "mode": "0600"}, False, "mode 0640"),
        ({"path": "/out/r", "kind": "folder"}, False, "a file of"),
        ({"path": "/out", "kind": "folder", "mode": "755"}, True, "a folder, mode 0755"),
        ({"path": "/out", "match": "x"}, False, "without content"),
        ({"path": "/out/l", "match": "42"}, True, "matches"),
        ({"path": "/out/l", "kind": "link"}, True, "a link"),
        ({"path": "/closed/f", "match": "x"}, True, "matches"),
        ({"path": "/none"}, False, "nothing is there"),
        ({"path": "/none", "absent": True}, True, "nothing is there"),
        ({"path": "/out/r/x", "absent": True}, True, "nothing is there"),
        ({"path": "/circle", "absent": True}, False, "a link"),
        ({"path": "/circle"}, False, "leads nowhere"),
        # In gVisor it is in that kernel's memory.
        ({"path": "/fifo"}, False, "nothing is there" if port.own_kernel else "a FIFO"),
        ({"path": "/fifo", "match": "x"}, False, "nothing is there" if port.own_kernel else "a FIFO"),
        ({"path": "/sparse", "match": "x"}, False, "of 5242880000 bytes"),
        ({"path": "/to-host"}, False, "leads nowhere"),
        ({"path": "/to-host", "match": "secret"}, False, "leads nowhere"),
        ({"path": "/to-etc/hostname", "match": "^trial"}, True, "matches"),
        ({"path": "/up", "match": "^trial"}, True, "matches"),
        ({"path": "/to-dev"}, None, "/dev is mounted in the run alone"),
    ]
    spec = {"expect": {"file": [question for question, _, _ in questions]}}
    done = await port.sh(script, spec=spec, root=root, limits=SLOW)
    for (question, met, text), observed in zip(questions, done.run.observations, strict=True):
        assert (observed.met, text in observed.seen) == (met, True), (question, observed)
        assert "secret" not in observed.seen
    # What a command leaves behind is looked at once more when it has ended, and what is in memory never.
    memory = [{"path": "/tmp/f"}, {"path": "/home/f"}]
    root = port.rootfs()
    (root / "home").symlink_to("/run")
    port.own(root)
    done = await port.sh(
        "touch /tmp/f /run/f",
        spec={"profile": "restricted", "expect": {"exit": 0, "file": memory}},
        root=root,
    )
    assert seen(done) == [True, None, None], done.run.observations
    result = {"exit": 0, "file": [{"path": "/result"}]}
    done = await port.sh("sleep 0.1; echo done > /result", spec={"expect": result}, limits=SLOW)
    assert seen(done) == [True, True]


async def test_a_run_that_exchanges_its_files_all_the_time(port: Harbour) -> None:
    """Between a file of its own and links out of it: never is anything but its own seen."""
    (port.folder / "etc").mkdir()
    (port.folder / "etc/f").write_text("secret of the host")
    script = f"""
    mkdir -p /a /b; echo own > /a/f
    while :; do
      ln -sfn /a /d; ln -sfn {port.folder}/etc /d; ln -sfn ../../../../..{port.folder}/etc /d
      mv /a /b/a; mv /b/a /a; ln -sf /proc/1/root{port.folder}/etc/f /g; rm -f /g; mkfifo /g; rm -f /g
    done
    """
    files = [{"path": path, "match": "secret"} for path in ("/d/f", "/g", "/b/a/f")] * 8
    limits = QUICK.model_copy(update={"alive_seconds": 3.0})
    done = await port.sh(script, spec={"expect": {"file": files}}, limits=limits)
    assert True not in seen(done), done.run.observations


async def test_stops(port: Harbour) -> None:
    def expecting(**stop: Any) -> dict[str, Any]:
        return {"expect": {"log": [{"match": "ready"}], "stop": stop}}

    handler = "trap 'sleep {0}; exit 7' {1}; echo ready; while :; do sleep 0.05; done"
    done = await port.sh(handler.format(0, "TERM"), spec=expecting(within_seconds=50, exit=7))
    assert (seen(done), done.run.exit_code, done.run.reason) == ([True, True], None, "stopped")
    assert "ends with exit code 7 within 50 s of its stop signal" in done.run.observations[1].expectation
    spec = expecting(within_seconds=50, exit=0)
    done = await port.sh(handler.format(0, "QUIT"), spec=spec, stop_signal="SIGQUIT")
    assert (seen(done), done.run.observations[1].seen[:11]) == ([True, False], "exit code 7")
    done = await port.sh(handler.format(3, "TERM"), spec=expecting(within_seconds=0.5))
    assert (seen(done), done.run.observations[1].seen) == ([True, False], "still running after 0.5 s")
    done = await port.sh("trap '' TERM; echo ready; while :; do sleep 0.05; done", spec=expecting())
    # What a program inside gVisor listens to is not seen: it is asked, and killed when its time is up.
    told = "still running" if port.own_kernel else "has no handler"
    assert (seen(done), told in done.run.observations[1].seen) == ([True, False], True)
    done = await port.sh("echo ready; exit 7", spec=expecting())
    assert seen(done) == [True, False]
    # It may be asked in the moment between its last word and its end.
    told = done.run.observations[1].seen
    assert told == "exit code 7, before it was asked to" or "has no handler" in told
    # The wall clock is above it: what there was no time to see is not known.
    limits = QUICK.model_copy(update={"wall_seconds": 5})
    done = await port.sh(handler.format(90, "TERM"), spec=expecting(within_seconds=50), limits=limits)
    assert seen(done) == [True, None]
    # Alone it waits until the command has stayed up.
    limits = QUICK.model_copy(update={"alive_seconds": 4.0})
    stop = {"within_seconds": 50, "exit": 7}
    done = await port.sh(handler.format(0, "TERM"), spec={"expect": {"stop": stop}}, limits=limits)
    assert (seen(done), done.run.seconds >= limits.alive_seconds) == ([True, True], True)


async def test_the_example_of_the_docs(port: Harbour) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/run-spec.md").read_text(), re.DOTALL)
    example = next(one for one in examples if "init: true" in one)
    spec = parse_run_spec(example).model_dump(exclude_unset=True, exclude={"version"})
    script = """
    mkdir /data; touch /data/lock; trap 'exit 0' TERM; sleep 0.2
    echo entries: 3 > /data/index; chmod 640 /data/index; rm /data/lock; echo ready since 3 > /tmp/ready
    while :; do sleep 0.1; done
    """
    done = await port.sh(script, spec=spec, limits=SLOW)
    assert seen(done) == [True] * 5, done.run.observations
