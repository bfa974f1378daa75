"""In what runtimes differ: versions, strength, what they leave in a state folder, what they say."""

from __future__ import annotations

import pytest

from sandbox.bundles.seccomp import kernel_seccomp
from sandbox.probes.base import Ending
from sandbox.runtimes import runc, runsc
from sandbox.runtimes.crun import CRUN
from sandbox.runtimes.holes import CRUN_HOLES, RUNSC_HOLES, known_holes
from sandbox.runtimes.outcome import not_executable, why_not_created
from sandbox.runtimes.ownkernel import spare_pids
from sandbox.runtimes.runc import RUNC
from sandbox.runtimes.runsc import RUNSC


@pytest.mark.parametrize(
    ("version", "open_holes"),
    [("0.10", 3), ("1.4.3", 2), ("1.8.1", 1), ("1.20", 0), ("1.26", 0), ("2.0", 0), ("unknown", 3)],
)
def test_known_holes_of_crun(version: str, open_holes: int) -> None:
    assert len(known_holes(version, CRUN_HOLES)) == open_holes


@pytest.mark.parametrize(
    ("said", "version", "open_holes"),
    [
        ("runsc version release-20260905.0\nspec: 1.2.1\n", "20260905.0", 0),
        ("runsc version v0.0.0-20260905035102-160fafc42237\n", "20260905035102-160fafc42237", 0),
        ("runsc version release-20181001.0\n", "20181001.0", 2),
        ("runsc version VERSION_MISSING\n", "VERSION_MISSING", 4),
    ],
)
def test_versions_of_runsc(said: str, version: str, open_holes: int) -> None:
    match = RUNSC.version.search(said)
    assert match is not None
    assert match[1] == version
    assert len(known_holes(version, RUNSC_HOLES)) == open_holes


def test_strength() -> None:
    order = [
        RUNSC.strength("20260905.0"),
        RUNC.strength("1.5.2"),
        CRUN.strength("1.8.1"),
        RUNC.strength("1.1.5+ds1"),
    ]
    assert order == sorted(set(order), reverse=True)
    assert RUNC.strength(None) == RUNC.strength("1.2.8") == RUNC.strength("1.3.3") > RUNC.strength("1.3.2")
    assert RUNC.strength("unknown") == RUNC.strength("1.1.5")


def test_whose_an_entry_of_the_state_folder_is() -> None:
    assert [runc.run_of(entry) for entry in ("run1", ".create-run1.log")] == ["run1", ""]
    entries = {
        "run-1_sandbox:run-1.state": "run-1",
        "run-1_sandbox:run-1.lock": "run-1",
        "runsc-run-1.sock": "run-1",
        "null-netns": "",
        ".start-run-1.log": "",
    }
    assert {entry: runsc.run_of(entry) for entry in entries} == entries


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("executable file `none` not found in $PATH: No such file or directory", "PATH"),
        ('error finding executable "none" in PATH [/bin]: no such file or directory', "PATH"),
        ("executable file `/bin/none` not found in $PATH: No such file or directory", "no such file"),
        ("creating process: failed to load /bin/none: no such file or directory", "no such file"),
        ("open executable: Too many levels of symbolic links", "circle"),
        ("creating process: failed to load /l: too many symbolic links encountered", "circle"),
        ("open executable: Operation not permitted", "not an executable"),
        ("creating process: failed to load /bin: permission denied", "not an executable"),
        ("creating process: failed to load /bin/odd: exec format error", "exec format error"),
    ],
)
def test_why_a_command_cannot_be_run(text: str, why: str) -> None:
    assert why in (why_not_created(text) or "")


def test_what_crun_prints_into_the_output() -> None:
    line = b'{"msg":"exec container process `/bin/odd`: Exec format error","level":"error","time":"2026"}\n'
    assert not_executable(Ending(1, None), line) == "exec format error"
    assert not_executable(Ending(1, None), b"before\n" + line) is None


def test_refusals_of_a_run_with_a_kernel_of_its_own() -> None:
    document = kernel_seccomp()
    assert document["defaultAction"] == "SCMP_ACT_ALLOW"
    rules = document["syscalls"]
    assert isinstance(rules, list)
    assert {rule["action"] for rule in rules} == {"SCMP_ACT_ERRNO"}
    refused = {name for rule in rules if "args" not in rule for name in rule["names"]}
    assert {"mount", "unshare", "setns", "keyctl", "bpf", "ptrace", "io_uring_setup"} <= refused
    # Without these a C library starts no thread.
    assert not refused & {"clone", "clone3", "set_robust_list", "rseq"}
    flags = [rule["args"][0]["value"] for rule in rules if rule["names"] == ["clone"]]
    assert sum(flags) == 0x7E020080
    assert spare_pids(256) > 2 * 256
