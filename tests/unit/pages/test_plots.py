"""Use over time as pictures, beside its limits."""

from __future__ import annotations

import re
from typing import Any

import pytest

from registry.contract.report import Run
from registry.pages.plots import Plot, plots_of

SAMPLES = [
    {"seconds": 0, "memory_bytes": 1024, "cpu_seconds": 0, "pids": 1, "layer_bytes": 0},
    {"seconds": 1, "memory_bytes": 4096, "cpu_seconds": 0.5, "layer_bytes": 512},
    {"seconds": 2, "memory_bytes": 2048, "cpu_seconds": 2.0, "pids": 3, "layer_bytes": 1024},
]


def drawn(**run: Any) -> dict[str, Plot]:
    return {one.kind: one for one in plots_of({"samples": SAMPLES, **run})}


def heights(plot: Plot) -> list[float]:
    return [float(point.partition(",")[2]) for point in plot.points.split()]


def test_use_is_drawn_as_far_as_it_is_known() -> None:
    plots = drawn()
    assert [point.partition(",")[0] for point in plots["memory"].points.split()] == ["0.0", "100.0", "200.0"]
    assert (plots["memory"].said, plots["memory"].limit) == ("at most 4.0 KiB", None)
    assert plots["processors"].said == "at most 1.5"
    assert plots["pids"].said == "at most 3"
    assert plots["files"].said == "at most 1.0 KiB"
    assert "written" not in plots
    assert not any(one.above or one.refused for one in plots.values())
    assert plots_of({}) == []
    assert plots_of({"samples": [{"seconds": 0, "memory_bytes": 0}, {"seconds": 0, "memory_bytes": 0}]}) == []


def test_a_limit_is_a_line_at_its_height() -> None:
    memory = drawn(limits={"memory_bytes": 8192})["memory"]
    assert memory.limit is not None
    assert memory.said == "at most 4.0 KiB of 8.0 KiB (50 %)"
    # Half of the limit is half as high as its line.
    assert 40 - min(heights(memory)) == pytest.approx((40 - float(memory.limit)) / 2, abs=0.1)
    assert 0 < float(memory.limit) < 5
    assert not memory.above


def test_use_that_is_little_of_its_limit_is_seen_all_the_same() -> None:
    memory = drawn(limits={"memory_bytes": 409600})["memory"]
    assert (memory.limit, memory.above) == (None, True)
    assert memory.said == "at most 4.0 KiB of 400.0 KiB (1 %)"
    assert min(heights(memory)) < 5


def test_what_the_limits_refused_stands_beside_them() -> None:
    limits = {"memory_bytes": 4096, "cpus": 1.5, "pids": 3, "written_bytes": 1024}
    plots = drawn(
        limits=limits,
        memory_peak_bytes=4096,
        pids_peak=4,
        pids_refused=12,
        throttled_seconds=1.26,
        oom_killed=True,
        reason="disk-full",
    )
    assert plots["memory"].refused == "Killed for want of memory"
    assert plots["processors"].refused == "Held back by the limit for 1.26 s"
    assert plots["pids"].refused == "Processes that could not begin: 12"
    assert plots["files"].refused == "No room was left"
    # The most of the kernel's own count, which the samples missed.
    assert plots["pids"].said == "at most 4 of 3 (133 %)"


def test_figures_that_cannot_be_draw_nothing_that_cannot_be() -> None:
    huge: dict[str, Any] = {
        "seconds": 1e308,
        "cpu_seconds": 1.7e308,
        "memory_bytes": 2**63 - 1,
        "pids": 2**63 - 1,
        "written_bytes": 2**63 - 1,
        "layer_bytes": 2**63 - 1,
    }
    nothing = dict.fromkeys(huge, 0)
    for second in ({**huge}, {**huge, "seconds": 5e-324}, {**huge, "seconds": 0}):
        for limits in ({}, {"memory_bytes": 1, "cpus": 5e-324, "pids": 1, "written_bytes": 1}):
            run = {
                "name": "smoke",
                "command": [],
                "exit_code": 0,
                "reason": "exited",
                "seconds": 1e308,
                "log": "",
                "observations": [],
                "memory_peak_bytes": 2**63 - 1,
                "pids_peak": 2**63 - 1,
                "pids_refused": 2**63 - 1,
                "throttled_seconds": 1.7e308,
                "samples": [nothing, second],
                "limits": limits,
            }
            # What a worker may say, and nothing more.
            said = Run.model_validate(run, strict=False).model_dump(mode="json")
            plots = plots_of(said)
            assert {one.kind for one in plots} >= {"memory", "pids", "files", "written"}
            for one in plots:
                assert re.fullmatch(r"[0-9., ]+", one.points), one
                assert all(0 <= height <= 40 for height in heights(one)), one
                assert len(one.said) < 100
                assert len(one.refused) < 100
