"""A trial as SARIF 2.1.0 (OASIS): what code-scanning services read. A rule for each kind of expectation."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from urllib.parse import quote

from registry.contract.kinds import KINDS, kind_of
from registry.oci.printable import printable
from registry.trials.formats.outcomes import Outcome, outcomes_of
from registry.trials.reading import TrialView

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_JUDGED = "judged"
_RULES = {**KINDS, _JUDGED: "the image can be judged"}
_TEXT_MAX = 1000


def sarif(trial: TrialView) -> bytes:
    """The log, with a result for each expectation that was not met or is not known."""
    found = outcomes_of(trial)
    told: list[tuple[str, str, str, Outcome]] = []
    for part in found:
        for run in part.runs:
            told += [
                (part.part.platform, run.run.title, kind_of(one.expectation), one)
                for one in run.outcomes
                if one.result != "met"
            ]
        told += [
            (part.part.platform, "trial", _JUDGED, problem)
            for problem in part.problems
            if problem.result != "met"
        ]
    rules = list(dict.fromkeys(rule for _, _, rule, _ in told))
    # A colon in its first part would make the rest of it a scheme's.
    uri = quote(trial.image, safe="/@")
    results = [
        _result(uri, rules.index(rule), one, rule=rule, where=place, title=title)
        for place, title, rule, one in told
    ]
    document = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Seatrial",
                        "version": version("seatrial"),
                        "rules": [
                            {"id": rule, "name": rule, "shortDescription": {"text": _RULES[rule]}}
                            for rule in rules
                        ],
                    }
                },
                "automationDetails": {"id": f"{uri}/{trial.id}"},
                "invocations": [{"executionSuccessful": trial.verdict in ("pass", "warn", "fail")}],
                "artifacts": [{"location": {"uri": uri}}],
                "results": results,
                "properties": {
                    "trial": trial.id,
                    "verdict": trial.verdict or trial.state,
                    "reason": printable(trial.reason),
                    "spec": trial.spec_digest,
                },
            }
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=True).encode()


def _result(
    uri: str, number: int, outcome: Outcome, *, rule: str, where: str, title: str
) -> dict[str, object]:
    what = printable(f"{where} {title}: expected: {outcome.expectation}; seen: {outcome.seen}")
    # The same expectation of the same run is the same finding, whatever was seen this time.
    same = hashlib.sha256(f"{where}\0{title}\0{outcome.expectation}".encode("utf-8", "replace")).hexdigest()
    result: dict[str, object] = {
        "ruleId": rule,
        "ruleIndex": number,
        "level": {"missed": "error", "unknown": "warning"}.get(outcome.result, "note"),
        # A reader takes what is in brackets for a link.
        "message": {"text": what[:_TEXT_MAX].replace("[", "(").replace("]", ")")},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri, "index": 0}}}],
        "partialFingerprints": {"expectation/v1": same},
    }
    if outcome.result == "excused":
        # It was met in the end, or is not run here.
        result |= {"kind": "informational", "level": "none"}
    return result
