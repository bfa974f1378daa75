"""The program of the self-test, and what is made of its answers and of the run's record."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.contract.report import Mechanism, Outbound, Report, ReportError, Run
from sandbox.packages import how_to_install, install_command
from sandbox.program import MACHINES, Step, make_program, read_answers, shown_answer
from sandbox.proofs import proofs, why_failed
from sandbox.selftest import CAPABILITIES, OUTSIDE, Tried, can_test, own_steps

ROOT = Path(__file__).resolve().parents[3]
# What a run on a host with everything answers.
ANSWERS = {
    "socket": 3,
    "connect": -101,
    "pid": 1,
    "uid": 1000,
    "no_new_privs": 1,
    "filtered": 2,
    **{f"capability {bit}": 0 for bit in range(CAPABILITIES)},
    **dict.fromkeys(("unshare", "mount", "keyctl", "bpf", "sethostname"), -38),
    "vsock": -97,
    "host file": -2,
    "setting": -13,
    "burn": 0,
    "forks": 63,
    "kill": 0,
}
RECORD = (
    "user namespace", "own ids", "mount namespace", "pid namespace", "network namespace", "uts namespace",
    "cgroup limits", "network fence", "capabilities", "pivot_root", "seccomp", "no_new_privs", "Landlock",
)  # fmt: skip


def tried(
    *,
    answers: dict[str, int] | None = None,
    missing: tuple[str, ...] = (),
    asked: tuple[str, ...] = (),
    **run: Any,
) -> Tried:
    lines = [Mechanism(name=name, applied=name not in missing, detail="d") for name in (*RECORD, *missing)]
    outbound = (Outbound(address=OUTSIDE[0], port=OUTSIDE[1], protocol="udp", attempts=1),)
    fields = {"reason": "oom", "oom_killed": True, "outbound": outbound, "throttled_seconds": 0.1, **run}
    one = Run(
        name="smoke", command=("/selftest",), exit_code=None, seconds=1, log="", observations=(), **fields
    )
    report = Report(
        protocol=1,
        lease="",
        digest="",
        platform="",
        tested="",
        runtime="",
        mechanisms=tuple(lines),
        runs=(one,),
    )
    return Tried(report, ANSWERS | (answers or {}), frozenset(asked))


def test_the_program_carries_out_its_steps(tmp_path: Path) -> None:
    assert can_test() is (platform.machine() in MACHINES)
    steps = (
        Step("user", "getuid"),
        Step("none", "openat", (-100, b"/nothing/here\0", 0)),
        Step("turns", "burn", (1000,)),
        Step("memory", "mmap", (0x10000000, 8192, 3, 0x32, -1, 0)),
        Step("pages", "touch", (0x10000000, 0x10000000 + 8192)),
        Step("processes", "forks", (3,)),
        Step("print", "print"),
        Step("exit", "exit", (7,)),
    )
    program = tmp_path / "selftest"
    program.write_bytes(make_program(steps, platform.machine()))
    program.chmod(0o755)
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen([program], stdout=file, start_new_session=True)
        try:
            assert process.wait(timeout=60) == 7
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # those that it started
    answers = read_answers(steps, output.read_text())
    assert answers == {
        "user": os.getuid(), "none": -2, "turns": 0, "memory": 0x10000000, "pages": 0, "processes": 3
    }  # fmt: skip


@pytest.mark.parametrize(
    "output", ["", "abc", "a" * 15, "a" * 17, "z" * 16, "a" * 16 + "b" * 16, "Killed", "\N{SNOWMAN}" * 16]
)
def test_other_output_is_no_answer(output: str) -> None:
    assert read_answers((Step("user", "getuid"), Step("print", "print")), output) is None


def test_answers_are_read_with_their_signs() -> None:
    steps = (Step("a", "getuid"), Step("b", "getuid"), Step("print", "print"))
    assert read_answers(steps, "a" * 13 + "doi" + "p" * 15 + "n\n") == {"a": 1000, "b": -3}
    assert (shown_answer(-38), shown_answer(3)) == ("ENOSYS", "3")


@pytest.mark.parametrize("machine", MACHINES)
def test_every_step_is_known_on_every_architecture(machine: str) -> None:
    program = make_program(own_steps(Path("/host")), machine)
    assert program[:4] == b"\x7fELF"
    assert program[18] == MACHINES[machine].elf
    assert b"/host\0" in program


def test_the_machine_code_is_that_of_its_source(tmp_path: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the assembler is of another architecture")
    source = ROOT / "scripts/selftest/x86_64.S"
    subprocess.run(["as", source, "-o", tmp_path / "code.o"], check=True)
    subprocess.run(
        ["objcopy", "-O", "binary", "-j", ".text", tmp_path / "code.o", tmp_path / "code"], check=True
    )
    assert (tmp_path / "code").read_bytes() == MACHINES["x86_64"].code


def test_what_a_good_host_shows() -> None:
    found = proofs(tried())
    assert set(found) == set(RECORD)
    assert all(one.applied and one.proven and one.seen for one in found.values())
    assert "63 started" in found["cgroup limits"].seen
    assert why_failed(tried()) is None


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("pid namespace", {"pid": 4711}),
        ("own ids", {"uid": 0}),
        ("network namespace", {"connect": 0}),
        ("network namespace", {"socket": 4, "connect": -9}),
        ("capabilities", {"capability 21": 1}),
        ("no_new_privs", {"no_new_privs": 0}),
        ("seccomp", {"filtered": 0}),
        ("seccomp", {"unshare": 0}),
        ("seccomp", {"vsock": 4}),
        ("pivot_root", {"host file": 4}),
        ("pivot_root", {"host file": -13}),
        ("mount namespace", {"mount": 0}),
        ("user namespace", {"setting": 4}),
        ("uts namespace", {"sethostname": 0}),
        ("cgroup limits", {"forks": 200}),
    ],
)
def test_what_is_seen_from_inside_decides(name: str, answers: dict[str, int]) -> None:
    found = proofs(tried(answers=answers))
    assert [one for one in found if not found[one].proven] == [name]
    assert found[name].applied


@pytest.mark.parametrize(
    ("name", "run"), [("cgroup limits", {"oom_killed": False}), ("network fence", {"outbound": ()})]
)
def test_what_is_seen_from_outside_decides(name: str, run: dict[str, Any]) -> None:
    found = proofs(tried(**run))
    assert [one for one in found if not found[one].proven] == [name]


def test_a_kernel_of_the_runtimes_own_is_not_asked_for_processes() -> None:
    names = [step.name for step in own_steps(Path("/host"), kernel="own")]
    assert not {"forks", "kill"} & set(names)
    assert names[-3:] == ["map", "touch", "exit"]
    answers = {name: answer for name, answer in ANSWERS.items() if name not in ("forks", "kill")}
    found = proofs(replace(tried(), answers=answers))
    assert found["cgroup limits"].proven
    assert "started" not in found["cgroup limits"].seen


def test_what_was_not_asked_for_is_not_missed() -> None:
    assert "block io" not in proofs(tried(missing=("block io", "AppArmor")))
    found = proofs(tried(missing=("block io", "AppArmor"), asked=("block io",)))
    assert not found["block io"].proven
    assert not found["AppArmor"].applied


def test_a_run_that_was_none_proves_nothing() -> None:
    error = ReportError(reason="runtime-error", message="it could not")
    failed = Tried(tried().report.model_copy(update={"error": error}), None, frozenset())
    assert proofs(failed) == {}
    assert why_failed(failed) == "it could not"
    silent = Tried(tried().report, None, frozenset())
    assert why_failed(silent) == "its program did not say what it saw"


@pytest.mark.parametrize(
    ("release", "line"),
    [
        ("ID=debian\n", "apt-get install --yes runc iproute2 uidmap"),
        ('ID="linuxmint"\nID_LIKE="ubuntu debian"\n', "apt-get install --yes runc iproute2 uidmap"),
        (
            'ID="rocky"\nID_LIKE="rhel centos fedora"\n',
            "dnf install --assumeyes runc iproute-tc shadow-utils",
        ),
        ("ID=opensuse-tumbleweed\n", "zypper --non-interactive install runc iproute2 shadow"),
        ("ID=alpine\n", "apk add runc iproute2 shadow-uidmap"),
        ("ID=slackware\n", "install runc and iproute2 and uidmap"),
    ],
)
def test_the_line_that_installs(tmp_path: Path, release: str, line: str) -> None:
    (tmp_path / "os-release").write_text(release)
    assert how_to_install("runc", "iproute2", "uidmap", release=tmp_path / "os-release") == line
    assert install_command(["runc"], release=tmp_path / "none") is None
