"""Several runs of one spec in the real runtime: cases, attempts, users, and what is looked at after."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from registry.contract.asked import asked_by
from registry.contract.judge import Judgement, judge
from registry.contract.limits import Limits
from registry.contract.report import Report, Run
from registry.contract.specfile import parse_run_spec
from sandbox.attempt import Workplace
from tests.kit.images import busybox_image, file, make_layer, write_layout
from tests.kit.trying import own_workplace, try_layout

LIMITS = Limits(alive_seconds=5, wall_seconds=900, memory_bytes=64 * 2**20, pids=64)
SERVER = (
    'mkdir -p /tmp/w; echo \'{"status": "ok", "n": [1, 2]}\' > /tmp/w/health.json; '
    "exec httpd -f -p 80 -h /tmp/w"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Workplace]]:
    """A worker's place, and a layout beside it with one image: a busybox whose entrypoint is its shell."""
    layout = tmp_path_factory.mktemp("layout")
    layer = make_layer(file("etc/passwd", b"root:x:0:0::/root:/bin/sh\napp:x:12345:12::/:/bin/sh\n"))
    write_layout(layout, busybox_image(["exit 0"], layers=[layer], entrypoint=["/bin/sh", "-c"]))
    with own_workplace() as opened:
        yield layout, opened


async def tried(place: tuple[Path, Workplace], text: str) -> tuple[Report, Judgement]:
    spec = parse_run_spec(text)
    report = await try_layout(str(place[0]), place[1], spec=spec, limits=LIMITS)
    return report, judge(report, asked=asked_by(spec.canonical()))


def of(report: Report, case: str) -> Run:
    return next(run for run in report.runs if run.case == case)


def seen(run: Run) -> dict[str, Any]:
    return {one.expectation: (one.met, one.seen) for one in run.observations}


async def test_cases_one_after_the_other(place: tuple[Path, Workplace]) -> None:
    report, judgement = await tried(
        place,
        """
        version: 1
        limits: {wall_seconds: 20}
        expect: {exit: 0}
        cases:
          - {name: writes, args: ["echo first > /kept; echo said"], expect: {exit: 0, log: [{match: said}]}}
          - {name: fresh, args: ["test ! -e /kept"]}
          - name: random
            user: random
            args: ["id; touch /nowhere; test $(id -u) -ge 10000 && test $(id -g) = 0"]
            expect: {exit: 0, log: [{match: '^uid=[0-9]{5} gid=0'}]}
          - name: read-only
            read_only: true
            writable: [/var/cache/app]
            args:
              - for at in /var/cache/app /tmp /run; do echo x > $at/x || exit 9; done;
                ! echo x > /bin/x && cat /proc/self/status
            expect: {exit: 0, log: [{match: 'CapEff:.*fb$'}]}
          - {name: fails, args: ["exit 3"], expect: {exit: nonzero}}
          - {name: killed, args: ["kill -9 $$; sleep 9"], init: true, expect: {exit: nonzero}}
        """,
    )
    assert [run.case for run in report.runs] == ["writes", "fresh", "random", "read-only", "fails", "killed"]
    assert [run.name for run in report.runs][:2] == ["writes", "fresh"]
    assert all(run.attempt is None for run in report.runs)
    assert [run.met() for run in report.runs] == [True] * 5 + [False], report.model_dump_json(indent=1)
    assert (judgement.verdict, judgement.reason[:13]) == ("fail", "case killed: ")
    drawn = next(one for one in report.mechanisms if one.name == "random user")
    assert (drawn.applied, "not in every run" in drawn.detail) == (False, True)
    assert report.tested.startswith("writes: the command exits 0; the log matches 'said'; fresh: ")
    assert [step.name for step in report.steps].count("teardown") == 1
    assert report.steps[-1].name == "further runs"


async def test_attempts_until_one_passes_and_all_of_them(place: tuple[Path, Workplace]) -> None:
    # Nothing of one attempt is there for the next, so that only time can tell them apart: the first waits
    # until it is too late for it.
    await tried(place, "{version: 1, expect: {exit: 0}}")  # now it is unpacked
    at = int(time.time()) + 10
    late = f"test $(date +%s) -ge {at} && exit 0; while test $(date +%s) -lt {at}; do sleep 0.1; done; exit 1"
    report, judgement = await tried(
        place,
        f"""
        version: 1
        limits: {{wall_seconds: 60}}
        attempts: 5
        expect: {{exit: 0}}
        cases:
          - {{name: late, args: ["{late}"]}}
          - {{name: never, args: ["exit 1"], attempts: 2}}
          - {{name: twice, args: ["exit 0"], attempts: 2, pass: all}}
        """,
    )
    outcomes = [(run.case, run.attempt, run.met()) for run in report.runs]
    assert outcomes == [
        ("late", 1, False),
        ("late", 2, True),
        ("never", 1, False),
        ("never", 2, False),
        ("twice", 1, True),
        ("twice", 2, True),
    ]
    assert judgement.reason.startswith("case never: attempt 1 of 2: expected: exit code is 0")
    asked = asked_by('{"attempts": 5, "cases": [{"name": "late"}]}')
    flaky = judge(report.model_copy(update={"runs": report.runs[:2]}), asked=asked)
    assert (flaky.verdict, flaky.flaky) == ("warn", 1)


async def test_an_error_ends_it_and_names_its_case(place: tuple[Path, Workplace]) -> None:
    report, judgement = await tried(
        place,
        "{version: 1, limits: {wall_seconds: 20}, expect: {exit: 0}, attempts: 3, cases:"
        " [{name: a}, {name: b, user: nobody-knows}, {name: c}]}",
    )
    assert [run.case for run in report.runs] == ["a"]
    assert report.error is not None
    assert (report.error.reason, report.error.message[:3]) == ("user-unknown", "b: ")
    assert judgement.verdict == "error"


async def test_what_more_can_be_expected(place: tuple[Path, Workplace]) -> None:
    content = b"root:x:0:0::/root:/bin/sh\napp:x:12345:12::/:/bin/sh\n"
    digest = hashlib.sha256(content).hexdigest()
    report, judgement = await tried(
        place,
        f"""
        version: 1
        limits: {{wall_seconds: 60, alive_seconds: 8}}
        args: [{json.dumps(SERVER)}]
        cases:
          - name: good
            expect:
              alive: 1
              http:
                - port: 80
                  path: /health.json
                  headers: {{content-length: "^[0-9]+$"}}
                  json: [{{path: $.status, equals: ok}}, {{path: "$.n[*]", equals: 2}}, {{path: "$.n[5]"}}]
                - {{port: 80, path: /health.json, json: [{{path: $.status, equals: ok}}], within_seconds: 50}}
                - {{port: 80, path: /none, status: 404, headers: {{X-None: .}}}}
              file: [{{path: /etc/passwd, mode: "0644", digest: "sha256:{digest}"}}]
              log: [{{match: panic, absent: true}}]
              below: {{start_seconds: 4, memory_bytes: 60000000, cpu_seconds: 20}}
              only_writes: [/tmp/w]
              no_outbound: true
          - name: bad
            args: ["echo panic; echo x > /etc/passwd; nc -w 1 192.0.2.7 99; exec sleep 600"]
            expect:
              alive: 1
              healthcheck: true
              file: [{{path: /etc/passwd, digest: "sha256:{"0" * 64}"}}]
              log: [{{match: ^panic, absent: true}}]
              below: {{cpu_seconds: 0.000001}}
              only_writes: [/tmp/w]
              no_outbound: true
        """,
    )
    good, bad = seen(of(report, "good")), seen(of(report, "bad"))
    own = place[1].runtime.info.kernel == "own"
    missed = {words: said for words, said in good.items() if said[0] is not True}
    assert len(good) == 11, good
    # Each is told apart: a value that is not there, and a header; so it was never ready.
    assert [said[1][:40] for said in missed.values()] == [
        "HTTP 200, but not in its JSON: $.n[5] is",
        "HTTP 404, but no header X-None",
        "not known",
        # The fence does not see what a kernel of the run's own refuses.
        *(["not seen here"] if own else []),
    ], missed
    assert {words.split(" ")[0]: said[0] for words, said in bad.items() if words != "alive after 1 s"} == {
        "the": False,
        "a": False,
        "no": False,
        "at": False,
        "nothing": False,
        "it": None if own else False,
    }, bad
    assert bad["alive after 1 s"][0] is True
    assert bad["the image's HEALTHCHECK succeeds"][1] == "the image has none"
    assert "/etc/passwd (changed)" in bad["nothing is written but below /tmp/w"][1]
    reached = bad["it tries to reach nothing that its network refuses"][1]
    assert reached == ("not seen here" if own else "192.0.2.7 port 99/tcp")
    assert judgement.verdict == "fail"


async def test_checks_by_name(place: tuple[Path, Workplace]) -> None:
    report, judgement = await tried(
        place,
        """
        version: 1
        limits: {wall_seconds: 60, alive_seconds: 4}
        args: ["trap 'exit 0' TERM; echo version 1.2; while :; do sleep 0.1; done"]
        checks: [starts, restricted, stops-cleanly, healthcheck]
        cases: [{name: alone, args: ["echo no database; exit 4"], expect: {exit: nonzero}}]
        """,
    )
    assert {run.case: run.met() for run in report.runs} == {
        "starts": True,
        "restricted": True,
        "stops-cleanly": True,
        "healthcheck": False,
        "alone": True,
    }, report.model_dump_json(indent=1)
    assert (
        judgement.reason
        == "case healthcheck: expected: the image's HEALTHCHECK succeeds; seen: the image has none"
    )


async def test_secrets_reach_the_image_and_nobody_else(place: tuple[Path, Workplace]) -> None:
    value = 'p4ss/w0rd+ "of" the=db'
    # What it is in a URL stands in an environment that tells nobody.
    said = """
        test "$DB" = "$AGAIN" || exit 9
        echo plain $DB
        echo base64 $(echo -n "x$DB" | base64 -w 0)
        echo hex $(echo -n "$DB" | od -An -tx1 | tr -d " \n")
        echo url $URL
        echo -n "${DB%%w?rd*}"; sleep 0.3; echo "${DB#*/}"
        cat "/none/$DB"
        exec sleep 600
    """
    spec = parse_run_spec(
        json.dumps(
            {
                "version": 1,
                "args": [said],
                "env": {"DB": {"secret": "DB"}, "AGAIN": {"secret": "DB"}, "URL": {"secret": "URL"}},
                "limits": {"wall_seconds": 100},
                "expect": {
                    "log": [
                        {"match": "^plain p.ss/w.rd"},
                        {"match": "^p.ss/w.rd"},
                        {"match": "No such file"},
                    ],
                    "exec": [
                        {"command": ["/bin/sh", "-c", "echo $DB; exit 3"], "exit": 3, "within_seconds": 50}
                    ],
                },
            }
        )
    )
    streamed: list[bytes] = []
    secrets = {"DB": value, "URL": quote(value, safe="").replace("%2F", "%2f")}
    report = await try_layout(
        str(place[0]), place[1], spec=spec, limits=LIMITS, secrets=secrets, on_output=streamed.append
    )
    assert report.error is None
    (run,) = report.runs
    assert [one.met for one in run.observations] == [True] * 4, run.log
    stream = b"".join(streamed).decode()
    for told in (report.model_dump_json(), run.log, stream):
        for part in ("p4ss", "w0rd", "the=db", "cDRzcy93", value.encode().hex()[:16], "%2fw0rd", "%3Ddb"):
            assert part not in told, told
    lines = run.log.splitlines()
    assert (lines[0], lines[2], lines[3], lines[4]) == ("plain ***", "hex ***", "url ***", "***")
    assert "***" in run.observations[3].seen
    assert stream == run.log
