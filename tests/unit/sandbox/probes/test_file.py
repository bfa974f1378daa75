"""Looks at files keep to the time that is left of a run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from registry.contract.expectations import FileExpectation
from registry.contract.report import Observation
from sandbox.probes import file
from sandbox.probes.attempt import Answer
from sandbox.probes.base import View


def last_look(left_seconds: float) -> Observation:
    probe = file.FileProbe(FileExpectation(path="/a"), Path("/nowhere"), (), within_seconds=5)
    end = time.monotonic() + left_seconds
    view = View(5.0, pid=0, ending=None, over="", log=bytearray, left=lambda: end - time.monotonic())
    observation = probe.poll(view)
    assert observation is not None
    return observation


@pytest.mark.parametrize("left_seconds", [0.2, -1.0])
def test_a_slow_look_ends_with_the_run(left_seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> Answer:
        time.sleep(60)
        return Answer(True, "too late")

    monkeypatch.setattr(file, "look", slow)
    began = time.monotonic()
    assert last_look(left_seconds).met is None
    assert time.monotonic() - began < 30
