"""A small init before the command: it passes signals on, reaps what nobody waits for, tells of crashes."""

from __future__ import annotations

import shutil

import pytest

from tests.kit.runs import QUICK, Harbour, image_config, seen

INIT = {"init": True, "expect": {"exit": 0}}
# The command is one that waits for nobody, and becomes the parent of what ends behind it. They are counted
# until there are as many as there will be.
ORPHANS = (
    "(i=0; while [ $i -lt 30 ]; do (sh -c 'exit 0' &); i=$((i+1)); done; i=0;"
    " until n=$(grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l); [ $n {0} ] || [ $i -ge 200 ];"
    " do i=$((i+1)); sleep 0.1; done; echo $n) & exec sleep 1000"
)
COUNTED = {"log": [{"match": "^[0-9]+$"}]}


async def test_a_crash_by_signal_is_told(port: Harbour) -> None:
    crash = "kill -SEGV $$; echo survived"
    ignored = await port.sh(crash)
    # gVisor makes no exception for the first process, and tells a death by signal as a shell does.
    ended = (139, "") if port.own_kernel else (0, "survived\n")
    assert (ignored.run.reason, ignored.run.exit_code, ignored.run.log) == ("exited", *ended)
    done = await port.sh(crash, spec=INIT)
    assert (done.run.reason, done.run.signal, done.run.exit_code, done.run.log) == ("signal", 11, 139, "")
    assert (seen(done), done.run.observations[0].seen) == ([False], "exit code 139")
    assert "of the host's tree only the init" in str(done.mechanisms)


async def test_zombies_are_reaped(port: Harbour) -> None:
    kept = await port.sh(ORPHANS.format("-ge 30"), spec={"expect": COUNTED})
    assert int(kept.run.log) >= 30
    reaped = {"init": True, "expect": COUNTED}
    assert int((await port.sh(ORPHANS.format("-eq 0"), spec=reaped, user="33:33")).run.log) == 0
    # More of them than the run may have processes: those of before are gone when ten more come, soon or late.
    storm = (
        "i=0; while [ $i -lt 300 ]; do (sh -c 'exit 0' &); i=$((i+1));"
        " while [ $((i%10)) = 0 ] && [ $(ls -d /proc/[0-9]* | wc -l) -gt 15 ]; do sleep 0.05; done;"
        " done; echo made $i"
    )
    limits = QUICK.model_copy(update={"pids": 40})
    assert (await port.sh(storm, spec=INIT, limits=limits)).run.log.endswith("made 300\n")


async def test_signals_are_passed_on(port: Harbour) -> None:
    """An init takes its signals by signalfd or sigwait: it has handlers for none, and holds them back."""
    script = "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    expect = {"log": [{"match": "ready"}], "stop": {"within_seconds": 50, "exit": 7}}
    done = await port.sh(script, spec={"init": True, "expect": expect})
    assert (seen(done), done.run.reason) == ([True, True], "stopped")
    assert done.run.log == "ready\ngot it\n"
    # What has no handler is ended by the signal all the same, as everywhere but in the place of an init.
    expect = {"log": [{"match": "ready"}], "stop": {"within_seconds": 50}}
    done = await port.sh("echo ready; exec sleep 1000", spec={"init": True, "expect": expect})
    assert seen(done) == [True, True]
    assert done.run.observations[1].seen.startswith("exit code 143 after ")


async def test_a_command_that_cannot_be_executed(port: Harbour) -> None:
    done = await port.run(image_config("/bin/none"), spec=INIT)
    assert done.error is not None
    assert done.error.reason == "start-failed"
    assert "'/bin/none' cannot be run: no such file or directory" in done.error.message


async def test_images_that_bring_an_init_of_their_own(port: Harbour) -> None:
    """One waits by signalfd, the other by sigwait, of which the kernel shows less."""
    root = port.rootfs()
    names = [name for name in ("catatonit", "tini-static") if shutil.which(name)]
    if not names:
        pytest.skip("needs catatonit; CI has it")
    for name in names:
        shutil.copy(str(shutil.which(name)), root / "bin" / name)
    port.own(root)
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    expect = {"log": [{"match": "ready"}], "stop": {"within_seconds": 50, "exit": 7}}
    for name in names:
        command = image_config(f"/bin/{name}", "--", "/bin/sh", "-c", script)
        done = await port.run(command, spec={"expect": expect}, root=root)
        assert seen(done) == [True, True], (name, done.run.observations)
