"""What every runtime must do behind the one protocol, whoever made it.

A runtime's test module derives one class from :class:`RuntimeContract` and gives it a fixture ``dock``: a
harbour with that runtime, for the whole module.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from registry.contract.report import RunLimits
from registry.oci.imageconfig import Healthcheck
from sandbox.errors import SandboxError
from sandbox.lsm.selinux import selinux_active
from sandbox.runtimes.cgroups import find_cgroups, members
from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.ownkernel import spare_pids
from sandbox.runtimes.readings import read_limits
from sandbox.runtimes.spawn import opened_supervisors
from sandbox.runtimes.sweep import sweep
from tests.kit.processes import kill_with_its_supervisors
from tests.kit.runs import MIB, QUICK, Harbour, Host, harbour, image_config, seen
from tests.kit.sources import ROOT

EVERYWHERE = {
    *("pid namespace", "network namespace", "mount namespace", "ipc namespace", "uts namespace"),
    *("user namespace", "own ids", "cgroup limits", "pivot_root", "no_new_privs", "capabilities", "seccomp"),
}
"""What the record of a run has as applied, whatever its runtime, with root and control groups."""
_WORKER = """
import asyncio, pathlib, sys
from sandbox.ids import IdRange
from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.spawn import Supervisors
from tests.kit.runs import QUICK, Harbour, image_config
folder = pathlib.Path(sys.argv[1])
runtime = find_runtime(folder.parent / "state", name=sys.argv[3])
harbour = Harbour(folder, runtime, Supervisors(), IdRange(int(sys.argv[2])))
limits = QUICK.model_copy(update={"alive_seconds": 100, "wall_seconds": 100})
asyncio.run(harbour.run(image_config("/bin/sleep", "1000"), limits=limits))
"""


@contextmanager
def docked(name: str, *, path: str) -> Iterator[Harbour]:
    """A harbour with the runtime ``name`` from ``path``; nothing of its runs may be left afterwards."""
    # Not below pytest's folders: their parents are closed to the mapped users.
    with (
        pytest.MonkeyPatch.context() as patch,
        TemporaryDirectory(prefix=f"seatrial-{name}-") as folder,
        opened_supervisors() as supervisors,
    ):
        patch.setenv("PATH", path)
        with harbour(Path(folder), find_runtime(Path(folder) / "state", name=name), supervisors) as place:
            before = place.host()
            try:
                yield place
                as_before(place, before)
                assert left_behind(place) == []
            finally:
                sweep(place.runtime)


class RuntimeContract:
    """The contract; see the module."""

    async def test_output_exit_code_and_record(self, dock: Harbour) -> None:
        done = await dock.sh(
            "echo out; echo err >&2; echo again > /dev/stdout; id -u; id -g; exit 3", user="7:9"
        )
        assert (done.run.reason, done.run.exit_code, done.run.signal) == ("exited", 3, None)
        assert done.run.log == "out\nerr\nagain\n7\n9\n"
        assert (seen(done), done.error, done.downgrades) == ([False], None, ())
        lines = {one.name: one for one in done.mechanisms}
        assert EVERYWHERE - {name for name, one in lines.items() if one.applied} == set()
        assert f"memory {QUICK.memory_bytes}" in (lines["cgroup limits"].detail or "")
        # What could not be read from the host's kernel says so.
        own = dock.runtime.info.kernel == "own"
        assert all(
            ("own kernel" in (lines[name].detail or "")) is own for name in EVERYWHERE - {"cgroup limits"}
        )
        assert ("checks for known holes" in lines) is bool(dock.runtime.info.known_holes)
        assert {"start through the kernel", "teardown"} <= {one.name for one in done.steps}
        assert done.run.cpu_seconds is not None
        assert done.run.pids_peak is not None

    async def test_exec_stop_and_what_limits_the_kernel_holds(self, dock: Harbour) -> None:
        check = Healthcheck(command=("/bin/sh", "-c", "sleep 2; test $(cat /inside) = in"), shell=False)
        script = "echo in > /inside; trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done"
        config = image_config("/bin/sh", "-c", script, healthcheck=check)
        limits = QUICK.model_copy(update={"cpus": 0.5, "wall_seconds": 100.0})
        task = asyncio.create_task(dock.run(config, limits=limits, root=dock.rootfs()))
        group = f"{dock.runtime.cgroup_parent}/run{dock.count + 1}"
        await until(lambda: task.done() or (has_begun(group, own_kernel=dock.own_kernel) and _limited(group)))
        held = read_limits(find_cgroups(), group, None)
        done = await task
        assert seen(done) == [True], done.run.observations
        assert (done.run.reason, done.run.exit_code, done.run.log) == ("stopped", None, "bye\n")
        spare = spare_pids(limits.pids) if dock.runtime.info.kernel == "own" else 0
        assert (held.memory_bytes, held.pids, held.cpus) == (limits.memory_bytes, 64 + spare, 0.5)
        assert done.run.limits == RunLimits(
            memory_bytes=limits.memory_bytes,
            pids=64 + spare,
            cpus=0.5,
            written_bytes=limits.written_bytes,
            wall_seconds=100.0,
        )
        assert not held.swap_bytes

    async def test_looks_inside_and_at_files_and_stops_behind_an_init(self, dock: Harbour) -> None:
        script = "echo r42 > /r; chmod 640 /r; trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"
        expect = {
            "log": [{"match": "ready"}],
            "exec": [
                {"command": ["cat", "/r"], "match": "^r[0-9]+$", "within_seconds": 60},
                {"command": ["/bin/sh", "-c", "exit 4"], "exit": 4, "within_seconds": 60},
                {"command": ["/bin/none"]},
            ],
            "file": [
                {"path": "/r", "mode": "640", "match": "^r42$", "within_seconds": 60},
                {"path": "/none", "absent": True},
            ],
            "stop": {"within_seconds": 30, "exit": 7},
        }
        limits = QUICK.model_copy(update={"alive_seconds": 6.0, "wall_seconds": 100.0})
        # There the domain of runs may execute no program of the host.
        init = not selinux_active()
        done = await dock.sh(script, limits=limits, spec={"init": init, "expect": expect})
        assert seen(done) == [True, True, True, False, True, True, True], done.run.observations
        assert len(done.run.samples) > 10
        crashing = dock.sh("kill -SEGV $$", spec={"init": True, "expect": {"exit": 0}})
        if not init:
            with pytest.raises(SandboxError, match="SELinux domain of runs may execute nothing of the host"):
                await crashing
            return
        crash = await crashing
        assert (crash.run.reason, crash.run.signal) == ("signal", 11), crash.run

    async def test_capabilities_that_were_given(self, dock: Harbour) -> None:
        """Root has them beside the seven, another user has them alone, also in a look inside."""
        look = {"command": ["busybox", "chroot", "/", "/bin/true"], "within_seconds": 50}
        spec = {"capabilities": ["SYS_CHROOT", "KILL"], "expect": {"alive": True, "exec": [look]}}
        limits = QUICK.model_copy(update={"alive_seconds": 3.0})
        for user, rights in (("", 0x400FB), ("1000:1000", 0x40020)):
            done = await dock.sh("grep ^Cap /proc/self/status; sleep 99", spec=spec, user=user, limits=limits)
            assert seen(done) == [True, True], (done.run, done.error)
            assert set(re.findall(r"Cap(?:Prm|Eff|Bnd):\t(.*)", done.run.log)) == {f"{rights:016x}"}
            (said,) = (one.detail for one in done.mechanisms if one.name == "capabilities")
            assert said.endswith("; allowed by the operator: SYS_CHROOT")

    async def test_ports_are_reached(self, dock: Harbour) -> None:
        script = "mkdir /www; echo in > /www/x; exec httpd -f -p 80 -h /www"
        expect = {
            "http": [{"port": 80, "path": "/x", "body": "^in", "within_seconds": 50}],
            "tcp": [{"port": 80, "within_seconds": 50}, {"port": 81}],
        }
        limits = QUICK.model_copy(update={"alive_seconds": 5.0})
        done = await dock.sh(script, limits=limits, spec={"expect": expect})
        assert seen(done) == [True, True, False], done.run.observations
        assert "refused" in done.run.observations[2].seen

    async def test_ends_are_told_apart(self, dock: Harbour) -> None:
        signalled, bomb, flood = await asyncio.gather(
            dock.sh("sh -c 'kill -9 $$'; exit $?"),
            dock.sh("exec tail /dev/zero"),
            dock.sh("yes", limits=QUICK.model_copy(update={"log_bytes": 100_000})),
        )
        assert (signalled.run.reason, signalled.run.exit_code, signalled.run.oom_killed) == (
            "exited",
            137,
            False,
        )
        assert (bomb.run.reason, bomb.run.oom_killed) == ("oom", True)
        assert bomb.run.memory_peak_bytes is not None
        # The kernel lets a group go over by what one processor has charged and not counted yet.
        assert bomb.run.memory_peak_bytes <= QUICK.memory_bytes + MIB
        assert (flood.run.reason, flood.run.log_truncated, len(flood.run.log)) == ("log-full", True, 100_000)

    async def test_limits_of_processes_processor_and_time_hold(self, dock: Harbour) -> None:
        limits = QUICK.model_copy(update={"wall_seconds": 4.0, "cpus": 0.3})
        forks, burner = await asyncio.gather(
            dock.sh("b() { b | b & b; }; b", limits=limits),
            dock.sh("while :; do :; done & while :; do :; done", limits=limits),
        )
        assert seen(forks) == [False]
        assert (burner.run.reason, burner.run.exit_code) == ("timeout", None)
        assert burner.run.cpu_seconds is not None
        assert burner.run.cpu_seconds < 0.7 * burner.run.seconds

    async def test_a_command_that_is_not_there(self, dock: Harbour) -> None:
        for command, why in (("/bin/none", "there is no such file"), ("none", "not on the image's PATH")):
            with pytest.raises(SandboxError, match=f"{command}' cannot be run: .*{why}") as caught:
                await dock.run(image_config(command))
            assert caught.value.reason == "start-failed"

    def test_delete_of_what_is_not_there(self, dock: Harbour) -> None:
        dock.runtime.delete("never")
        dock.runtime.delete("never")
        assert not dock.runtime.list_runs()

    async def test_a_killed_supervisor_and_worker_leave_what_a_sweep_removes(self, dock: Harbour) -> None:
        folder = dock.folder / "worker"
        folder.mkdir(mode=0o711)
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _WORKER, str(folder), str(dock.ids.base), dock.runtime.info.name),
            cwd=ROOT,
        )
        group = f"{dock.runtime.cgroup_parent}/run1"
        await until(lambda: has_begun(group, own_kernel=dock.own_kernel))
        kill_with_its_supervisors(worker.pid)
        await worker.wait()
        assert list(dock.runtime.list_runs()) == ["run1"]
        assert members(find_cgroups(), group)
        assert await asyncio.to_thread(sweep, dock.runtime) == ("run1",)
        await until(lambda: not dock.host().processes)
        after = dock.host()
        assert (after.groups, after.states, left_behind(dock)) == ((), (), [])
        assert await asyncio.to_thread(sweep, dock.runtime) == ()
        shutil.rmtree(folder)

    async def test_memory_may_be_small(self, dock: Harbour) -> None:
        done = await dock.sh("echo small", limits=QUICK.model_copy(update={"memory_bytes": 32 * MIB}))
        assert (done.run.log, seen(done)) == ("small\n", [True])


async def until(found: Callable[[], bool]) -> None:
    """Wait until ``found`` is true, with patience for a busy machine."""
    async with asyncio.timeout(120):
        while not found():  # noqa: ASYNC110  (the kernel sets no event)
            await asyncio.sleep(0.02)


def as_before(place: Harbour, before: Host) -> None:
    """Hold the host against what it was: the kernel takes a killed process off its list in its own time."""
    deadline = time.monotonic() + 30
    while place.host() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert place.host() == before


def left_behind(dock: Harbour) -> list[str]:
    """Command lines of living processes that name the harbour's folder, whoever they belong to."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (entry / "cmdline").read_text()
            if str(dock.folder) in line and int(entry.name) != os.getpid():
                found.append(line)
    return found


def _limited(group: str) -> bool:
    """Whether all limits are there: a runtime makes group after group, and a group before its limit."""
    held = read_limits(find_cgroups(), group, None)
    return None not in (held.memory_bytes, held.pids, held.cpus)


def has_begun(group: str, *, own_kernel: bool) -> bool:
    """Whether the command runs; of one with a kernel of its own the host sees processes without a name."""
    lines = []
    for pid in members(find_cgroups(), group):
        with suppress(OSError):
            lines.append(Path(f"/proc/{pid}/cmdline").read_text())
    if own_kernel:
        return any(line.startswith("exe\0") or line == "" for line in lines)
    # Those of a runtime that are about to end have no name either.
    return any(line.startswith(("/bin/sleep\0", "/bin/sh\0")) for line in lines)
