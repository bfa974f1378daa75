"""Pure rules of runs: versions, ends, limits, messages."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from registry.contract.capabilities import NEVER
from registry.contract.limits import Limits
from sandbox.errors import SandboxError
from sandbox.probes.base import Ending
from sandbox.runtimes.cgroups import Cgroups
from sandbox.runtimes.conclude import signal_number
from sandbox.runtimes.held import limit_problems
from sandbox.runtimes.holes import RUNC_HOLES, known_holes
from sandbox.runtimes.isolation import check_downgrades
from sandbox.runtimes.outcome import (
    _CAPABILITY_TEXTS,
    end_reason,
    fatal_signal,
    how_to_have,
    needs_writable_root,
    not_executable,
    peak,
    readable_log,
    shown_command,
    why_not_created,
    withheld_capability,
)
from sandbox.runtimes.readings import AppliedLimits, Usage, read_limits, read_usage

CLEAN = Usage(oom_kills=0, memory_peak_bytes=None, cpu_seconds=None)


@pytest.mark.parametrize(
    ("version", "open_holes"),
    [
        ("1.0.0-rc6", 4), ("1.1.5+ds1", 3), ("1.1.12", 2), ("1.2.7", 2), ("1.2.8", 1), ("1.3.3", 1),
        ("1.3.6", 0), ("1.4.0", 1), ("1.4.3", 0), ("1.5.0", 0), ("2.0.1", 0), ("unknown", 4),
    ],
)  # fmt: skip
def test_known_holes(version: str, open_holes: int) -> None:
    assert len(known_holes(version, RUNC_HOLES)) == open_holes


@pytest.mark.parametrize(
    ("ending", "over", "kills", "full", "reason"),
    [
        (Ending(0, None), "", 0, False, "exited"),
        (Ending(0, None), "", 1, True, "exited"),
        (Ending(3, None), "", 0, False, "exited"),
        (Ending(137, None), "", 1, False, "oom"),
        (Ending(None, 9), "", 1, False, "oom"),
        (Ending(None, 11), "", 0, False, "signal"),
        (Ending(1, None), "", 0, True, "disk-full"),
        (None, "timeout", 0, False, "timeout"),
        (None, "log-full", 0, False, "log-full"),
        (None, "", 0, False, "stopped"),
    ],
)
def test_end_reason(ending: Ending | None, over: str, kills: int, *, full: bool, reason: str) -> None:
    usage = Usage(kills, None, None)
    said = end_reason(ending, over, usage=usage, disk_full=full, init=False)  # type: ignore[arg-type]
    assert said == reason


@pytest.mark.parametrize(
    ("code", "init", "number"),
    [(139, True, 11), (139, False, None), (143, True, 15), (128, True, None), (255, True, None)],
)
def test_the_signal_of_a_command_behind_an_init(code: int, init: bool, number: int | None) -> None:
    assert fatal_signal(Ending(code, None), init=init) == number
    assert fatal_signal(Ending(None, 11), init=init) == 11
    said = end_reason(Ending(code, None), "", usage=Usage(0, None, None), disk_full=False, init=init)
    assert said == ("exited" if number is None else "signal")


def test_a_peak_is_the_kernel_s_or_that_of_the_samples() -> None:
    assert peak(5, [9]) == 5
    assert peak(None, [None, 3, 7, None]) == 7
    assert peak(None, [None]) is None


@pytest.mark.parametrize(
    ("log", "capability"),
    [
        ('nginx: [emerg] chown("/var/lib/nginx/body", 33) failed (1: Operation not permitted)', "CAP_CHOWN"),
        ('error: failed switching to "postgres": operation not permitted', "CAP_SETUID"),
        ("mount: /mnt: permission denied.", "CAP_SYS_ADMIN"),
        ("umount: /mnt: Operation not permitted", "CAP_SYS_ADMIN"),
        ("unshare: unshare failed: Function not implemented", "CAP_SYS_ADMIN"),
        ("setgroups: Operation not permitted", "CAP_SETGID"),
        ("ping: socket: Operation not permitted", "CAP_NET_RAW"),
        ("iptables v1.8.7: can't initialize: Permission denied", "CAP_NET_ADMIN"),
        ("RTNETLINK answers: Operation not permitted", "CAP_NET_ADMIN"),
        ("date: cannot set date: Operation not permitted", "CAP_SYS_TIME"),
        ("    os.chown(path, 1, 1)\nPermissionError: [Errno 1] Operation not permitted: '/x'", "CAP_CHOWN"),
        ("    os.setgroups([])\nPermissionError: [Errno 1] Operation not permitted", "CAP_SETGID"),
        ("Error: EPERM: operation not permitted, chown '/data'", "CAP_CHOWN"),
        ("Error: EPERM: operation not permitted, setuid", "CAP_SETUID"),
        ("chown: all good\ncat: /etc/shadow: Permission denied", None),
        ("Error: EPERM: operation not permitted, open '/data'", None),
        ("cannot open the amount file: Operation not permitted", None),
        ("cat: /etc/shadow: Permission denied", None),
        ("chown: all good", None),
        ("", None),
    ],
)
def test_withheld_capability(log: str, capability: str | None) -> None:
    assert withheld_capability(Ending(1, None), log.encode(), ()) == capability
    assert withheld_capability(Ending(0, None), log.encode(), ()) is None
    assert withheld_capability(None, log.encode(), ()) is None
    if capability is not None:
        assert withheld_capability(Ending(1, None), log.encode(), (capability,)) is None


def test_how_a_capability_is_come_by() -> None:
    said = how_to_have("CAP_SYS_CHROOT", profile="standard")
    assert "'capabilities: [SYS_CHROOT]'" in said
    assert said.endswith("--allow-capability SYS_CHROOT")
    assert "--allow-capability" not in how_to_have("CAP_CHOWN", profile="standard")
    assert "profile restricted" in how_to_have("CAP_CHOWN", profile="restricted")
    for name in {one for _, one in _CAPABILITY_TEXTS}:
        said = how_to_have(name, profile="standard")
        assert ("no run is given it" in said) == (name.removeprefix("CAP_") in NEVER)


def test_a_root_that_cannot_be_written_to() -> None:
    log = b'nginx: [emerg] mkdir() "/var/lib/nginx/body" failed (30: Read-only file system)\n'
    assert needs_writable_root(Ending(1, None), log)
    assert not needs_writable_root(Ending(0, None), log)
    assert not needs_writable_root(None, log)
    assert not needs_writable_root(Ending(1, None), b"out of luck\n")


def test_last_words_are_read_in_bounded_time() -> None:
    for word in (b"chown", b"setuid\n", b"os.chown\nxerror: ", b"mount: "):
        began = time.process_time()
        assert withheld_capability(Ending(1, None), word * (20_000 // len(word)), ()) is None
        assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("log", "code", "why"),
    [
        ("exec /bin/x: exec format error\n", 1, "exec format error"),
        ("exec /bin/x: exec format error", 255, "exec format error"),
        ('standard_init_linux.go:228: exec user process caused: no such file or directory', 1,
         "no such file or directory"),
        ("exec /bin/x: exec format error\nmore", 1, None),
        ("first\nexec /bin/x: exec format error\n", 1, None),
        ("exec /bin/x: exec format error\n", 2, None),
    ],
)  # fmt: skip
def test_not_executable(log: str, code: int, why: str | None) -> None:
    assert not_executable(Ending(code, None), log.encode()) == why


def test_why_not_created() -> None:
    missing = (
        'runc create failed: unable to start container process: exec: "x": executable file not found in $PATH'
    )
    assert why_not_created(missing) == "it is not on the image's PATH"
    assert why_not_created('exec: "/x": stat /x: no such file or directory') is not None
    assert why_not_created("container init was OOM-killed") is None


def test_logs_fit_into_a_report() -> None:
    assert readable_log(b"plain\ttext\r\n\x1b[31m") == ("plain\ttext\r\n\x1b[31m", False)
    assert readable_log(b"a\x00b\xff\x01") == ("a\ufffdb\ufffd\ufffd", False)
    for data in (b"\x00", b"\x1b", b'"', b"\xff", b"\n"):
        text, cut = readable_log(data * 2**20)
        assert len(json.dumps(text, ensure_ascii=False).encode()) < 3.5 * 2**20
        assert cut is (data == b"\x1b")


def test_commands_fit_into_a_report() -> None:
    assert shown_command(["/bin/sh", "-c", "echo \x00"]) == ("/bin/sh", "-c", "echo \ufffd")
    assert len(shown_command(["x"] * 5000)) == 2000
    shown = shown_command(["x" * 2**20] * 900)
    assert sum(map(len, shown)) < 20_000


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGQUIT", 3),
        ("quit", 3),
        ("9", 9),
        ("", 15),
        ("SIGNONE", 15),
        ("999", 15),
        ("9" * 5000, 15),
        ("\u00b2", 15),
        ("\u0669", 15),
        ("SIG_DFL", 15),
        ("_", 15),
    ],
)
def test_stop_signals(text: str, number: int) -> None:
    assert signal_number(text) == number
    assert number in signal.valid_signals()


def test_limits_that_do_not_hold() -> None:
    limits = Limits(memory_bytes=2**26, cpus=0.5, pids=10)
    held = AppliedLimits(memory_bytes=2**26, swap_bytes=0, pids=10, cpus=0.5)
    assert limit_problems(held, limits, swap=True) == ()
    assert limit_problems(AppliedLimits(None, None, None, None), limits, swap=True) == (
        "memory",
        "pids",
        "cpu",
    )
    more = AppliedLimits(memory_bytes=2**27, swap_bytes=1, pids=11, cpus=0.6)
    assert limit_problems(more, limits, swap=True) == ("memory", "swap", "pids", "cpu")
    for weight, problems in ((1024, ()), (100, ()), (2048, ("even cpu",)), (2, ("even cpu",))):
        assert limit_problems(replace(held, cpu_weight=weight), limits, swap=True) == problems


def test_missing_isolation_must_be_allowed_by_name() -> None:
    missing = {"cgroup-limits": "no controller", "seccomp": "no filter"}
    everything = frozenset(missing)
    assert check_downgrades(missing, everything) == ("cgroup-limits", "seccomp")  # type: ignore[arg-type]
    assert check_downgrades({}, everything) == ()
    with pytest.raises(SandboxError, match="--allow-downgrade seccomp") as caught:
        check_downgrades(missing, frozenset({"cgroup-limits"}))  # type: ignore[arg-type]
    assert caught.value.reason == "isolation-missing"


def test_version_2_groups(tmp_path: Path) -> None:
    group = tmp_path / "seatrial/x/run"
    group.mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    for name, text in {
        "cgroup.procs": "41\n42\n",
        "memory.max": "67108864\n",
        "pids.max": "32\n",
        "memory.swap.max": "0\n",
        "cpu.max": "50000 100000\n",
        "memory.events": "low 0\noom 1\noom_kill 2\n",
        "memory.peak": "67108864\n",
        "cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
    }.items():
        (group / name).write_text(text)
    cgroups = Cgroups({}, tmp_path)
    assert cgroups.version == 2
    assert cgroups.controllers() >= {"cpu", "memory", "pids"}
    assert read_limits(cgroups, "/seatrial/x/run", 42) == AppliedLimits(67108864, 0, 32, 0.5)
    # A process that is elsewhere is not held by this group.
    assert read_limits(cgroups, "/seatrial/x/run", 7) == AppliedLimits(None, None, None, None)
    assert read_usage(cgroups, "/seatrial/x/run") == Usage(2, 67108864, 1.5)
    (group / "memory.max").write_text("max\n")
    (group / "cpu.max").write_text("max 100000\n")
    assert read_limits(cgroups, "/seatrial/x/run", 42) == AppliedLimits(None, 0, 32, None)


def test_version_1_groups(tmp_path: Path) -> None:
    roots = {name: tmp_path / name for name in ("memory", "cpu", "cpuacct", "pids")}
    texts = {
        "memory/memory.limit_in_bytes": "67108864", "memory/memory.memsw.limit_in_bytes": "67108864",
        "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1",
        "memory/memory.max_usage_in_bytes": "5", "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "cpuacct/cpuacct.usage": "2500000000", "pids/pids.max": "max",
    }  # fmt: skip
    for name, root in roots.items():
        (root / "x").mkdir(parents=True)
        (root / "x/cgroup.procs").write_text("5\n")
        for key, text in texts.items():
            if key.startswith(f"{name}/"):
                (root / "x" / key.partition("/")[2]).write_text(text + "\n")
    cgroups = Cgroups(roots, None)
    assert read_limits(cgroups, "/x", 5) == AppliedLimits(67108864, 0, None, None)
    assert read_usage(cgroups, "/x") == Usage(1, 5, 2.5)
    (roots["memory"] / "x/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert read_limits(cgroups, "/x", 5).memory_bytes is None
