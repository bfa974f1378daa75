"""How a run ended and what it used, in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from registry.contract.report import Outbound, Run, RunLimits, Sample
from registry.contract.use import against, how_it_ended, shown_number, shown_seconds, use_lines


def run(**members: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "name": "smoke",
        "command": ("/app",),
        "exit_code": 0,
        "reason": "exited",
        "seconds": 1.0,
        "log": "",
        "observations": (),
    }
    return Run(**(usual | members)).model_dump(mode="json")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "exit code 0"),
        ({"exit_code": 3}, "exit code 3"),
        ({"exit_code": 137, "reason": "oom", "oom_killed": True}, "exit code 137 (oom)"),
        ({"oom_killed": True}, "exit code 0 (a process of it was killed for want of memory)"),
        ({"exit_code": 1, "reason": "disk-full"}, "exit code 1 (disk-full)"),
        ({"exit_code": None, "reason": "timeout"}, "timeout"),
        ({"exit_code": 139, "reason": "signal", "signal": 11}, "signal SIGSEGV"),
        ({"exit_code": None, "reason": "signal", "signal": 40}, "signal 40"),
        ({"exit_code": None, "reason": "stopped"}, "stopped"),
    ],
)
def test_the_end(members: dict[str, Any], said: str) -> None:
    assert how_it_ended(run(**members)) == said


def test_what_is_not_known_is_not_said() -> None:
    assert use_lines(run()) == []


def test_use_in_a_few_lines() -> None:
    samples = tuple(
        Sample(seconds=number / 10, cpu_seconds=number / 20, memory_bytes=number << 20)
        for number in range(60)
    )
    tried = [Outbound(address=f"192.0.2.{n}", port=80, protocol="tcp", attempts=n) for n in range(9, 2, -1)]
    lines = use_lines(
        run(
            cpu_seconds=2.95,
            memory_peak_bytes=59 << 20,
            pids_peak=4,
            written_bytes=1 << 20,
            throttled_seconds=1.5,
            samples=samples,
            outbound=(
                Outbound(address="2001:db8::1", port=443, protocol="tcp", attempts=1, permitted=True),
                *tried,
            ),
        )
    )
    assert lines[0] == (
        "used: memory at most 59.0 MiB; processor 3.0 s (1.5 s held back by the limit); processes at most 4; "
        "disk written 1.0 MiB"
    )
    assert lines[1].startswith("memory over its time: ▁")
    assert lines[1].endswith("█")
    assert lines[2] == "processor over its time: " + "█" * 30
    assert lines[3] == (
        "tried to reach: [2001:db8::1]:443/tcp (permitted), 192.0.2.9:80/tcp (refused, 9 times), "
        "192.0.2.8:80/tcp (refused, 8 times), 192.0.2.7:80/tcp (refused, 7 times), "
        "192.0.2.6:80/tcp (refused, 6 times) and 3 more"
    )


def test_use_beside_its_limits() -> None:
    limits = {
        "memory_bytes": 64 << 20,
        "cpus": 0.5,
        "pids": 1000,
        "written_bytes": 1 << 30,
        "wall_seconds": 60.0,
    }
    (used, refused) = use_lines(
        run(
            seconds=31.0,
            memory_peak_bytes=23 << 20,
            cpu_seconds=15.0,
            throttled_seconds=14.25,
            pids_peak=4,
            pids_refused=3,
            samples=(Sample(seconds=31.0, layer_bytes=3 << 20),),
            limits=RunLimits(**limits),
        )
    )
    assert used == (
        "used: memory at most 23.0 MiB of 64.0 MiB (36 %); processor 15.0 s (14.2 s held back by the limit "
        "of 0.5); processes at most 4 of 1000 (under 1 %); files at most 3.0 MiB of 1.0 GiB (under 1 %); "
        "time 31 s of 60 s (52 %)"
    )
    assert refused == "refused: 3 new processes, for want of room under the limit"
    (used, refused) = use_lines(run(pids_peak=7, pids_refused=1))
    assert (used, refused[:22]) == ("used: processes at most 7", "refused: 1 new process")
    assert use_lines(run(pids_refused=0)) == []


@pytest.mark.parametrize(
    ("used", "limit", "said"),
    [
        (0, 10, "0 of 10 (0 %)"),
        (9.99, 10, "9.99 of 10 (99 %)"),
        (10, 10, "10 of 10 (100 %)"),
        (11, 10, "11 of 10 (110 %)"),
        (2**62, 1, "5e+18 of 1"),
        (1e308, 5e-324, "1e+308 of 0"),
        (1, None, "1"),
    ],
)
def test_a_share_of_a_limit(used: float, limit: float | None, said: str) -> None:
    assert against(used, limit, shown_number) == said


def test_figures_that_cannot_be() -> None:
    moments = ((0, 0), (5e-324, 1e308), (1e-323, 1e308), (1.0, 1e308))
    samples = tuple(Sample(seconds=seconds, cpu_seconds=cpu) for seconds, cpu in moments)
    assert use_lines(run(samples=samples)) == []


@pytest.mark.parametrize(
    "absurd",
    [
        {"pids_peak": 10**4000},
        {"samples": [{"seconds": 1.0, "pids": 2**63}]},
        {"samples": [{"seconds": 1.0}] * 61},
        {"limits": {"cpus": 0.0}},
        {"limits": {"memory_bytes": 2**63}},
        {"outbound": [{"address": "192.0.2.1", "port": 1, "protocol": "tcp", "attempts": 2**63}]},
    ],
)
def test_numbers_that_no_column_and_no_screen_holds_are_no_report(absurd: dict[str, object]) -> None:
    said = run() | {"observations": []} | absurd
    with pytest.raises(ValidationError):
        Run.model_validate_json(json.dumps(said))


def test_seconds_that_cannot_be_are_not_written_out() -> None:
    assert [shown_seconds(one) for one in (0.04, 1.25, 1e9)] == ["0.0", "1.2", "1000000000.0"]
    assert shown_seconds(1.7e308, 3) == "more than 1000000000"
    (line,) = use_lines({"cpu_seconds": 1.7e308, "throttled_seconds": 1e300})
    assert line == ("used: processor more than 1000000000 s (more than 1000000000 s held back by the limit)")
