"""How a run ends is told apart, each way with a reason of its own."""

from __future__ import annotations

import time

import pytest

from registry.contract.report import ReportError
from sandbox.errors import SandboxError
from tests.kit.runs import MIB, QUICK, Harbour, image_config, seen

ALIVE = {"expect": {"alive": True}}


async def test_exit_code(port: Harbour) -> None:
    done = await port.sh("echo out; echo err >&2; exit 3")
    assert (done.run.reason, done.run.exit_code, done.run.signal) == ("exited", 3, None)
    assert done.run.log == "out\nerr\n"
    assert seen(done) == [False]
    assert done.error is None


async def test_expected_exit_code(port: Harbour) -> None:
    done = await port.sh("exit 3", spec={"expect": {"exit": 3}})
    assert seen(done) == [True]


async def test_signal(port: Harbour) -> None:
    # The first process of a namespace ignores its own fatal signals, so the shell is not the first.
    done = await port.sh("sh -c 'kill -9 $$'; exit $?", spec={"expect": {"exit": 0}})
    assert done.run.exit_code == 137
    assert done.run.oom_killed is False


async def test_alive_is_stopped_by_us(port: Harbour) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    done = await port.sh(script, spec={"expect": {"log": [{"match": "ready"}], "alive": True}})
    assert (done.run.reason, done.run.exit_code) == ("stopped", None)
    assert seen(done) == [True, True]
    assert done.run.log == "ready\nbye\n"


async def test_without_a_spec_exit_0_or_alive(port: Harbour) -> None:
    done = await port.sh("sleep 60", spec={})
    assert (done.run.reason, seen(done)) == ("stopped", [True])
    assert seen(await port.run(image_config("/bin/true"), spec={})) == [True]


async def test_one_that_ignores_term_is_killed(port: Harbour) -> None:
    started = time.monotonic()
    script = "trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done"
    done = await port.sh(script, spec={"expect": {"log": [{"match": "ready"}]}})
    assert done.run.reason == "stopped"
    assert "no" in done.run.log
    assert time.monotonic() - started < 90


async def test_timeout(port: Harbour) -> None:
    limits = QUICK.model_copy(update={"wall_seconds": 0.5})
    done = await port.sh("sleep 60", limits=limits, spec={"expect": {"exit": 0}})
    assert (done.run.reason, done.run.exit_code) == ("timeout", None)
    assert seen(done) == [False]
    assert "after 0.5 s" in done.run.observations[0].seen


async def test_memory_bomb(port: Harbour) -> None:
    done = await port.sh("exec tail /dev/zero")
    assert done.run.reason == "oom"
    assert done.run.oom_killed
    assert done.run.memory_peak_bytes is not None
    # The kernel lets a group go over by what one processor has charged and not counted yet.
    assert done.run.memory_peak_bytes <= QUICK.memory_bytes + MIB


async def test_a_killed_child_is_reported_beside_exit_0(port: Harbour) -> None:
    done = await port.sh("tail /dev/zero; exit 0")
    # Without memory a kernel of its own ends, and all of the run with it.
    ended = ("oom", None) if port.own_kernel else ("exited", 0)
    assert (done.run.reason, done.run.exit_code, done.run.oom_killed) == (*ended, True)


async def test_fork_bomb(port: Harbour) -> None:
    started = time.monotonic()
    limits = QUICK.model_copy(update={"wall_seconds": 3})
    done = await port.sh("b() { b | b & b; }; b", limits=limits, spec={"expect": {"exit": 0}})
    assert seen(done) == [False]
    assert time.monotonic() - started < 120


async def test_log_flood(port: Harbour) -> None:
    limits = QUICK.model_copy(update={"log_bytes": 100_000})
    done = await port.sh("yes", limits=limits)
    assert (done.run.reason, done.run.log_truncated, len(done.run.log)) == ("log-full", True, 100_000)
    assert seen(done) == [False]


async def test_a_flood_that_ends_by_itself_is_one_too(port: Harbour) -> None:
    # All of it fits into the pipe: it has ended before anybody reads.
    done = await port.sh("yes | head -c 50000; exit 0", limits=QUICK.model_copy(update={"log_bytes": 1024}))
    assert (done.run.reason, done.run.exit_code, done.run.log_truncated) == ("log-full", None, True)
    assert seen(done) == [False]


async def test_missing_command(port: Harbour) -> None:
    with pytest.raises(SandboxError, match="'/bin/none' cannot be run: there is no such file") as caught:
        await port.run(image_config("/bin/none"))
    assert caught.value.reason == "start-failed"
    with pytest.raises(SandboxError, match="not on the image's PATH") as caught:
        await port.run(image_config("none"))
    assert caught.value.reason == "start-failed"


async def test_a_command_of_another_format(port: Harbour) -> None:
    root = port.rootfs()
    (root / "bin/odd").write_bytes(b"\x7fELF but not really")
    (root / "bin/odd").chmod(0o755)
    port.own(root)
    problem: ReportError | SandboxError | None
    try:
        problem = (await port.run(image_config("/bin/odd"), root=root)).error
    except SandboxError as before:
        # gVisor looks at the program before it starts it.
        assert port.own_kernel
        problem = before
    assert problem is not None
    assert problem.reason == "start-failed"
    assert "exec format error" in problem.message


async def test_a_folder_as_command(port: Harbour) -> None:
    with pytest.raises(SandboxError) as caught:
        await port.run(image_config("/bin"))
    assert caught.value.reason == "start-failed"


async def test_a_withheld_capability_is_named(port: Harbour) -> None:
    done = await port.sh("mkdir -p /m && mount -t tmpfs none /m")
    assert done.error is not None
    assert done.error.reason == "needs-capability"
    assert "CAP_SYS_ADMIN" in done.error.message
    assert "no run is given it" in done.error.message


async def test_a_capability_that_can_be_had_says_how(port: Harbour) -> None:
    done = await port.sh("busybox chroot / /bin/true", spec={"expect": {"exit": 0}})
    assert done.error is not None
    assert done.error.message.endswith("--allow-capability SYS_CHROOT")


async def test_an_init_needs_two_processes(port: Harbour) -> None:
    limits = QUICK.model_copy(update={"pids": 1})
    with pytest.raises(SandboxError, match="an init and its command are two processes") as caught:
        await port.sh("true", limits=limits, spec={"init": True})
    assert caught.value.reason == "spec-invalid"


async def test_restricted_files_that_cannot_be_written_to(port: Harbour) -> None:
    done = await port.sh("echo x > /bin/new", spec={"profile": "restricted"})
    assert done.error is not None
    assert done.error.reason == "needs-writable-root"
    assert done.error.message.endswith("read-only in this run; it may write to /tmp, /run, /var/tmp")


async def test_restricted_withholds_chown(port: Harbour) -> None:
    script = "touch /tmp/f && chown 33 /tmp/f"
    assert seen(await port.sh(script)) == [True]
    done = await port.sh(script, spec={"profile": "restricted"})
    assert done.error is not None
    assert "CAP_CHOWN" in done.error.message


async def test_stdout_closed(port: Harbour) -> None:
    done = await port.sh("exec >&- 2>&-; sleep 0.2; exit 4")
    assert (done.run.reason, done.run.exit_code, done.run.log) == ("exited", 4, "")


async def test_first_process_exits_while_children_live(port: Harbour) -> None:
    done = await port.sh("setsid sleep 1000 & setsid sleep 1000 & exit 0")
    assert (done.run.reason, done.run.exit_code) == ("exited", 0)
    assert done.run.seconds < QUICK.wall_seconds


async def test_daemons_are_gone_with_the_run(port: Harbour) -> None:
    done = await port.sh(
        "(setsid sh -c 'trap : TERM HUP; while :; do sleep 1; done' &) ; sleep 1000", spec=ALIVE
    )
    assert done.run.reason == "stopped"


async def test_output_may_be_opened_again_by_path(port: Harbour) -> None:
    done = await port.sh("echo one > /dev/stdout; echo two > /dev/stderr", user="33:33")
    assert done.run.log == "one\ntwo\n"
    assert seen(done) == [True]


async def test_log_match(port: Harbour) -> None:
    done = await port.sh("echo ready; sleep 60", spec={"expect": {"log": [{"match": "^rea.y$"}]}})
    assert (done.run.reason, seen(done)) == ("stopped", [True])
    done = await port.sh(
        "printf no-newline", spec={"expect": {"log": [{"match": "newline$"}, {"match": "x"}]}}
    )
    assert seen(done) == [True, False]


async def test_the_cpu_limit_holds(port: Harbour) -> None:
    limits = QUICK.model_copy(update={"cpus": 0.2, "wall_seconds": 1.5})
    script = "while :; do :; done & while :; do :; done"
    done = await port.sh(script, limits=limits, spec={"expect": {"exit": 0}})
    assert done.run.cpu_seconds is not None
    # Two processors would take twice the time; far less is used, with room for the start.
    assert done.run.cpu_seconds < 0.6 * done.run.seconds


async def test_shared_memory_is_bounded(port: Harbour) -> None:
    done = await port.sh("dd if=/dev/zero of=/dev/shm/f bs=1M count=200; stat -c %s /dev/shm/f; exit 0")
    assert "No space left" in done.run.log
    assert str(32 * MIB) in done.run.log


async def test_each_step_of_starting_has_its_time(port: Harbour) -> None:
    done = await port.run(image_config("/bin/true"))
    assert [one.name for one in done.steps] == [
        "read metadata and configuration",
        "assign namespaces, mount, set resource limits",
        "pivot_root, give up privileges",
        "check namespaces and limits",
        "fence and connect the network",
        "start through the kernel",
        "apply security constraints",
        "run and observe",
        "stop",
        "teardown",
    ]
    assert all(one.seconds > 0 for one in done.steps[:2])
