"""A trial as JUnit's XML, as CI servers read it: a suite for each run, a case for each expectation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from registry.trials.formats.outcomes import Outcome, PartOutcome, outcomes_of
from registry.trials.reading import RunView, TrialView

_NOT_TEXT = re.compile(
    "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    "|[\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""What XML 1.0 (2.2) has no way to write; and what moves a cursor or turns the direction of writing, as the
document may be shown on a terminal."""
_TAGS = {"missed": "failure", "unknown": "error", "excused": "skipped"}


def junit(trial: TrialView) -> bytes:
    """The document. Logs are in it as far as the trial has them."""
    root = Element("testsuites", name=_text(trial.image))
    for part in outcomes_of(trial):
        for one in part.runs:
            suite = _suite(root, trial, part, title=one.run.title, outcomes=one.outcomes, run=one.run)
            if one.run.log:
                SubElement(suite, "system-out").text = _text(one.run.log)
        if part.problems:
            _suite(root, trial, part, title="trial", outcomes=part.problems, run=None)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{sum(run.seconds for run in trial.runs):.3f}")
    indent(root)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _suite(
    root: Element,
    trial: TrialView,
    part: PartOutcome,
    *,
    title: str,
    outcomes: Sequence[Outcome],
    run: RunView | None,
) -> Element:
    results = [one.result for one in outcomes]
    suite = SubElement(
        root,
        "testsuite",
        name=_text(f"{part.part.platform} {title}"),
        tests=str(len(outcomes)),
        failures=str(results.count("missed")),
        errors=str(results.count("unknown")),
        skipped=str(results.count("excused")),
        time="0" if run is None else f"{run.seconds:.3f}",
        timestamp=(trial.finished_at or trial.created_at).strftime("%Y-%m-%dT%H:%M:%S"),
    )
    if part.part.worker:
        suite.set("hostname", _text(part.part.worker))
    record = part.part.record or {}
    properties = SubElement(suite, "properties")
    said = {
        "trial": trial.id,
        "digest": part.part.digest,
        "spec": trial.spec_digest,
        "verdict": part.part.verdict or part.part.state,
        "runtime": record.get("runtime") or "",
        "ended": "" if run is None else run.reason,
    }
    for name, value in said.items():
        if value:
            SubElement(properties, "property", name=name, value=_text(str(value)))
    for outcome in outcomes:
        name = _text(outcome.expectation)
        case = SubElement(suite, "testcase", classname=_text(f"{part.part.platform} {title}"), name=name)
        tag = _TAGS.get(outcome.result)
        if tag is not None:
            said_of = SubElement(case, tag, message=_text(outcome.seen))
            if tag != "skipped":
                said_of.set("type", outcome.result)
                said_of.text = _text(f"expected: {outcome.expectation}\nseen: {outcome.seen}")
    return suite


def _text(text: str) -> str:
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)
