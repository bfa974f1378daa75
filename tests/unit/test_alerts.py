"""The alert rules speak of metrics that there are, have a case each, and the documentation names them all."""

from __future__ import annotations

import re
from typing import Any

import yaml

from registry.http.metrics import Metrics
from sandbox.budget import Room
from sandbox.metrics import WorkerMetrics
from tests.kit.sources import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
NAME = re.compile(r"\bseatrial_[a-z_]+\b")
PAGE = (ROOT / "docs" / "worker.md").read_text()


def rules() -> list[Any]:
    (group,) = yaml.safe_load((FOLDER / "seatrial.rules.yml").read_text())["groups"]
    return list(group["rules"])


def names_of(registry: Any) -> set[str]:
    """The names that samples may have: a counter's end with ``_total``."""
    return {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for metric in registry.collect()
        if metric.name.startswith("seatrial_")
    }


def test_each_alert_is_about_what_is_told() -> None:
    worker = names_of(WorkerMetrics(Room(), slots=1, runtime="").registry)
    there = names_of(Metrics().registry) | worker
    for rule in rules():
        asked = set(NAME.findall(rule["expr"]))
        assert asked <= there, rule["alert"]
        assert asked or rule["expr"].startswith("up{")
    shown = {name.removesuffix("_info") for name in NAME.findall(PAGE)}
    assert worker <= shown
    queue = {name for name in there if name.startswith(("seatrial_trial_", "seatrial_workers"))}
    assert queue <= shown


def test_each_alert_has_a_case_and_a_line() -> None:
    cases = yaml.safe_load((FOLDER / "seatrial.rules.test.yml").read_text())["tests"]
    tried = [[one["alertname"] for one in case["alert_rule_test"]] for case in cases]
    assert tried == [[rule["alert"]] * 2 for rule in rules()]
    assert re.findall(r"^\| `(Seatrial\w+)` \|", PAGE, re.MULTILINE) == [rule["alert"] for rule in rules()]
    assert {rule["labels"]["severity"] for rule in rules()} == {"critical", "warning"}


def test_the_jobs_are_those_that_are_scraped() -> None:
    scrape = yaml.safe_load((FOLDER / "scrape.yml").read_text())
    assert [one["job_name"] for one in scrape["scrape_configs"]] == ["seatrial", "seatrial-worker"]
    assert scrape["rule_files"] == ["seatrial.rules.yml"]
