"""An attacker's program inside the bundle of an ordinary run: nothing is won, whichever one layer is missing.

``docs/hostile.md`` has what is measured here; ``make hostile`` compares, ``SEATRIAL_TEST_WRITE_HOSTILE=1``
writes it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from registry.contract.capabilities import GRANTABLE
from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.spawn import Supervisors
from sandbox.runtimes.sweep import sweep
from tests.kit.attempts import LAYERS, NO_PROC, ONLY_TOGETHER, Measurement, beyond_the_list, measure
from tests.kit.attempttable import PAGE, combinations, make_section, opened, replace_section
from tests.kit.hoststate import host_state
from tests.kit.runs import Harbour, harbour
from tests.kit.runtime_contract import as_before

MOST = 220


@pytest.fixture(scope="module")
def port(supervisors: Supervisors) -> Iterator[Harbour]:
    """A harbour of this module; the host must be afterwards what it was before."""
    if os.geteuid() != 0 or shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/bin") is None:
        pytest.skip("needs root and runc")
    folder = Path(tempfile.mkdtemp(prefix="seatrial-attempts-"))
    try:
        with harbour(folder, find_runtime(folder / "state", name="runc"), supervisors) as place:
            before, state = place.host(), host_state()
            try:
                yield place
                as_before(place, before)
                assert host_state() == state
            finally:
                sweep(place.runtime)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def plain(port: Harbour) -> Mapping[str, str]:
    """What the probe said in the bundle of an ordinary run."""
    return attempted(port, frozenset())


@pytest.fixture(scope="module")
def results(port: Harbour, plain: Mapping[str, str]) -> dict[frozenset[str], Mapping[str, str]]:
    """What the probe said in each bundle."""
    return {without: attempted(port, without) if without else plain for without in combinations()}


def attempted(port: Harbour, without: frozenset[str]) -> Mapping[str, str]:
    measured = measure(port, "attempts", without=without)
    assert measured.problem == "", (without, measured.problem)
    return measured.lines


@pytest.fixture(scope="module")
def walked(port: Harbour) -> Measurement:
    """The system calls that a run reaches."""
    measured = measure(port, "walk")
    assert measured.problem == ""
    return measured


def test_nothing_is_won(plain: Mapping[str, str]) -> None:
    assert len(plain) > 160
    assert opened({frozenset(): plain}, frozenset()) == set()
    assert {name for name, said in plain.items() if said in ("silent", "unknown", "timeout")} == set()


def test_all_that_an_operator_can_allow_opens_what_it_is_for_alone(port: Harbour) -> None:
    measured = measure(port, "attempts", capabilities=GRANTABLE)
    assert measured.problem == ""
    assert {name for name, said in measured.lines.items() if said == "open"} == {"chroot"}


def test_every_set_of_layers_answers_every_attempt(results: dict[frozenset[str], Mapping[str, str]]) -> None:
    assert {tuple(one) for one in results.values()} == {tuple(results[frozenset()])}


@pytest.mark.parametrize("layer", [name for name in LAYERS if name not in ONLY_TOGETHER])
def test_without_one_layer_another_stops_it(
    layer: str, results: dict[frozenset[str], Mapping[str, str]]
) -> None:
    assert opened(results, frozenset({layer})) == set()


@pytest.mark.parametrize(
    ("more", "why"),
    [(set(), "mount.*proc.*operation not permitted"), ({NO_PROC}, "open /proc/.*no such file")],
)
def test_without_a_pid_namespace_there_is_no_proc_and_no_run(more: set[str], why: str, port: Harbour) -> None:
    """The kernel mounts the /proc of a pid namespace only for who owns it, and runtimes need one."""
    measured = measure(port, "attempts", without=frozenset({"pid namespace", *more}))
    assert re.search(why, measured.problem), measured


def test_what_is_open_without_two_layers_shows_that_the_probe_can_win(
    results: dict[frozenset[str], Mapping[str, str]],
) -> None:
    assert "setuid program" in opened(results, frozenset({"no_new_privs", "nosuid, nodev"}))
    assert "mount: tmpfs" in opened(results, frozenset({"seccomp", "capabilities"}))
    assert "connect: host's loopback" in opened(results, frozenset({"network namespace", "network fence"}))
    masks = frozenset({"masked and read-only paths", "worker's masks"})
    assert {"read: interrupts", "read: /sys/fs", "write: pressure trigger"} <= opened(results, masks)
    shared = frozenset({"pid namespace", "own /proc"})
    assert opened(results, shared) == {"read: state of a process of the host"}
    assert "ptrace: sibling" in opened(results, frozenset({"seccomp", "outer seccomp"}))


def test_calls_that_can_be_reached(walked: Measurement) -> None:
    assert beyond_the_list(walked) == set()
    assert 150 < len(walked.lines["native"].split()) <= MOST
    if platform.machine() == "x86_64":
        assert (walked.lines["x32"], walked.lines["int80"]) == ("", "")


def test_each_row_with_one_answer_says_why_it_has_no_second() -> None:
    page = PAGE.read_text()
    section, _, measured = page.partition("## Rows with one answer\n")[2].partition("## Measured\n")
    rows = re.findall(r"^\| (.*) \| (.*) \|$", measured, re.MULTILINE)[2:]
    alone = {name for name, stops in rows if "→" not in stops}
    assert 10 < len(alone) < len(rows) / 5
    explained = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)))
    assert sorted(explained) == sorted(alone)


def test_the_page_has_what_was_measured(
    results: dict[frozenset[str], Mapping[str, str]], walked: Measurement
) -> None:
    counts = {name: len(numbers.split()) for name, numbers in walked.lines.items()}
    page = PAGE.read_text()
    section = make_section(results, counts)
    wanted = replace_section(page, section)
    if os.environ.get("SEATRIAL_TEST_WRITE_HOSTILE"):
        PAGE.write_text(wanted)
    elif os.environ.get("CI") or os.environ.get("SEATRIAL_TEST_COMPARE_HOSTILE"):
        # Elsewhere kernel and modules are others, and so are some answers.
        assert page == wanted, "make hostile, with SEATRIAL_TEST_WRITE_HOSTILE=1"
    assert section.count("\n| ") == len(results[frozenset()]) + 2
