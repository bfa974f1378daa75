"""Prometheus's own tool takes the alert rules, and each alert fires when it should and not before."""

from __future__ import annotations

import subprocess

import pytest

from tests.kit.sources import ROOT

FOLDER = ROOT / "deploy" / "prometheus"


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "seatrial.rules.yml"), ("test", "rules", "seatrial.rules.test.yml")],
    ids=["rules", "cases"],
)
def test_promtool(arguments: tuple[str, ...]) -> None:
    result = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "SUCCESS" in result.stdout


def test_the_example_of_a_configuration_is_one() -> None:
    result = subprocess.run(
        ["promtool", "check", "config", "scrape.yml"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
