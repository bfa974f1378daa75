"""Formats of a trial: their readers take them, and nothing that an image or a worker says breaks out."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from junitparser import JUnitXml
from markdown_it import MarkdownIt
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif

from registry.contract.examples import EXAMPLES
from registry.contract.kinds import KINDS, kind_of
from registry.contract.limits import Limits
from registry.contract.plan import in_words, make_plans
from registry.contract.specfile import parse_run_spec
from registry.oci.imageconfig import parse_image_config
from registry.trials.formats.junit import junit
from registry.trials.formats.markdown import markdown
from registry.trials.formats.sarif import sarif
from registry.trials.reading import PartView, RunView, TrialView

COUNTS = ("tests", "failures", "errors", "skipped")
AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOSTILE = (
    "</failure>]]>&amp;\0\x1b[2J`|`` \\| \\` <img src=x onerror=alert(1)> @team #1 ~~~ ``` "
    "![](http://evil/x) [a](javascript:x) https://evil.example\r\n| a |\n\n# head\n\ud7ff"
    "\ufffe\u202e\x9b2J\x7f"
)


def run_view(*met: bool | None, log: str | None = "hello\n", said: str = "", **members: Any) -> RunView:
    observations = [
        {"expectation": f"exit code is {number}{said}", "seen": f"exit code 1{said}", "met": one}
        for number, one in enumerate(met)
    ]
    values: dict[str, Any] = {
        "part": "p0",
        "platform": "linux/amd64",
        "name": f"smoke{said}",
        "command": ("/app",),
        "exit_code": 1,
        "signal": None,
        "reason": "exited",
        "oom_killed": False,
        "seconds": 1.5,
        "cpu_seconds": None,
        "memory_peak_bytes": None,
        "log": log,
        "log_truncated": False,
        "observations": observations,
        "case": None,
        "attempt": None,
        "log_kept": True,
        **members,
    }
    return RunView(**values)


def trial_view(verdict: str | None, *runs: RunView, said: str = "", **members: Any) -> TrialView:
    part: dict[str, Any] = {
        "id": "p0",
        "digest": "sha256:" + "1" * 64,
        "platform": "linux/amd64",
        "state": "done",
        "verdict": verdict,
        "reason": f"because{said}",
        "attempts": 1,
        "worker": f"one{said}",
        "record": {"runtime": f"runc 1{said}"},
        "flaky_attempts": 0,
        **members,
    }
    return TrialView(
        id="01a2",
        repository="team/app",
        visibility="private",
        digest="sha256:" + "1" * 64,
        state="done" if verdict else "queued",
        verdict="error" if verdict == "unsupported" else verdict,
        reason=f"because{said}",
        cause="push",
        created_by="admin",
        workload=None,
        created_at=AT,
        finished_at=AT,
        spec_digest="image",
        parts=[PartView(**part)],
        runs=runs,
    )


TRIALS = {
    "pass": (trial_view("pass", run_view(True, True)), (2, 0, 0, 0)),
    "fail": (trial_view("fail", run_view(True, False, None), said=HOSTILE), (3, 1, 1, 0)),
    "flaky": (trial_view("warn", run_view(False, attempt=1), run_view(True, attempt=2)), (2, 0, 0, 1)),
    "error": (trial_view("error"), (1, 0, 1, 0)),
    "not isolated": (trial_view("error", run_view(True)), (2, 0, 1, 0)),
    "queued": (trial_view(None, state="queued"), (1, 0, 1, 0)),
    "unsupported": (trial_view("unsupported"), (2, 0, 1, 1)),
    # Its part has other runs now, or none yet.
    "asked again": (trial_view("fail", state="queued"), (1, 1, 0, 0)),
    "passed since": (replace(trial_view("pass"), verdict="fail"), (1, 1, 0, 0)),
    "failed since": (replace(trial_view("fail"), verdict="pass"), (0, 0, 0, 0)),
    "passed, asked again": (trial_view("pass", state="queued"), (0, 0, 0, 0)),
    "hostile": (trial_view("fail", run_view(False, log=HOSTILE, said=HOSTILE), said=HOSTILE), (1, 1, 0, 0)),
}


@pytest.mark.parametrize("name", TRIALS)
def test_junit_is_read(name: str) -> None:
    trial, counts = TRIALS[name]
    read = JUnitXml.fromstring(junit(trial))
    suites = list(read)
    for found in (
        (read.tests, read.failures, read.errors, read.skipped),
        tuple(
            sum(getattr(suite, one) for suite in suites) for one in ("tests", "failures", "errors", "skipped")
        ),
    ):
        assert found == counts
    cases = [case for suite in suites for case in suite]
    assert sum(bool(case.result) for case in cases) == sum(counts[1:])
    assert len(cases) == counts[0]


def test_junit_holds_what_was_said() -> None:
    root = ET.fromstring(junit(TRIALS["hostile"][0]))
    (failure,) = root.iter("failure")
    expected = re.sub("[\0\x1b\x7f\x9b\ufffe\u202e]", "\ufffd", f"exit code 1{HOSTILE}")
    assert failure.get("message") == expected
    (log,) = root.iter("system-out")
    assert (log.text or "").startswith("</failure>]]>&amp;\ufffd\ufffd[2J`|``")
    assert [child.tag for child in root.iter()].count("testcase") == 1
    assert b"system-out" not in junit(trial_view("fail", run_view(False, log=None)))


@pytest.mark.parametrize("name", TRIALS)
def test_sarif_is_what_its_schema_says(name: str) -> None:
    trial, counts = TRIALS[name]
    Sarif.model_validate_json(sarif(trial))
    (run,) = json.loads(sarif(trial))["runs"]
    levels = [result["level"] for result in run["results"]]
    assert (levels.count("error"), levels.count("warning"), levels.count("none")) == counts[1:]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(rules[one["ruleIndex"]] == one["ruleId"] for one in run["results"])
    assert run["invocations"][0]["executionSuccessful"] == (trial.verdict in ("pass", "warn", "fail"))
    assert run["artifacts"][0]["location"]["uri"] == "team/app@sha256%3A" + "1" * 64


def tokens_of(text: str) -> list[Any]:
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    return [inline for token in parser.parse(text) for inline in (token, *(token.children or ()))]


def require_nothing_broke_out(trial: TrialView) -> None:
    text = markdown(trial).decode()
    found = tokens_of(text)
    kinds = {token.type for token in found}
    allowed = {"inline", "text", "code_inline", "code_block", "softbreak"}
    boxes = ("heading", "paragraph", "table", "thead", "tbody", "tr", "th", "td")
    assert kinds <= allowed | {f"{one}_{end}" for one in boxes for end in ("open", "close")}
    said = "".join(token.content for token in found if token.type == "text")
    assert not set(said) & set("@#<>[]&`|\\/"), said
    rows = sum(token.type == "tr_open" for token in found)
    cells = sum(token.type in ("td_open", "th_open") for token in found)
    assert cells == rows * 5
    assert [token.tag for token in found if token.type == "heading_open"] == ["h3"]
    assert not re.search("[\0\x1b\x7f-\x9f\u202e]", text)
    assert len(text) < 65_536


@given(st.text(alphabet=st.sampled_from("`|\\ \n\ra<>@#*_[]()!~-=\t&;:/\x1b")) | st.text())
@example(HOSTILE)
@example("|" * 5000)
@example(("x" * 400 + "\n") * 100)
def test_markdown_keeps_what_strangers_say_in_its_place(said: str) -> None:
    runs = [run_view(False, None, log=f"{said}\n", said=said) for _ in range(3)]
    require_nothing_broke_out(trial_view("fail", *runs, said=said))


def test_markdown_is_short_and_tells_the_worst_first() -> None:
    runs = [
        run_view(*[True] * 100, *[False] * 100, log=("y" * 500 + "\n") * 100, said="z" * 300)
        for _ in range(20)
    ]
    trial = trial_view("fail", *runs, said="w" * 5000)
    require_nothing_broke_out(trial)
    text = markdown(trial).decode()
    assert "and 3950 more" in text
    assert text.count("❌") == 51
    for name, (one, _) in TRIALS.items():
        require_nothing_broke_out(one)
        assert markdown(one).decode().startswith("### "), name
    assert "the image can be judged" in markdown(TRIALS["error"][0]).decode()


def test_each_expectation_of_a_spec_has_its_kind() -> None:
    config = parse_image_config(
        json.dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "config": {
                    "Cmd": ["/a"],
                    "ExposedPorts": {"80/tcp": {}},
                    "Healthcheck": {"Test": ["CMD", "x"]},
                },
                "rootfs": {"type": "layers", "diff_ids": []},
            }
        ).encode()
    )
    more = """{version: 1, expect: {alive: true, file: [{path: /a, absent: true}, {path: /b, kind: folder}],
        below: {cpu_seconds: 3}, no_outbound: true, log: [{match: a, absent: true}]}}"""
    kinds = set()
    for spec in (None, more, *(one.spec for one in EXAMPLES.values())):
        parsed = None if spec is None else parse_run_spec(spec)
        limits, ceiling = Limits(), Limits(wall_seconds=600, memory_bytes=2**34)
        for plan in make_plans(config, parsed, limits=limits, ceiling=ceiling, image_spec_allowed=False):
            for words in in_words(plan):
                assert kind_of(words) != "other", words
                kinds.add(kind_of(words))
    assert kinds >= {
        "healthcheck",
        "stop",
        "http",
        "log",
        "file",
        "writes",
        "outbound",
        "below",
        "exec",
        "exit",
    }
    assert kind_of("a stranger's words") == "other"
    assert kinds < set(KINDS)
