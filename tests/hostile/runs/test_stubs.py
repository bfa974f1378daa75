"""Stubs in the real runtime: what an image finds, what is known of what it asked, and what it cannot do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from registry.contract.asked import asked_by
from registry.contract.judge import Judgement, judge
from registry.contract.limits import Limits
from registry.contract.report import Report, Run
from registry.contract.specfile import parse_run_spec
from sandbox.attempt import Workplace
from sandbox.network import serving
from tests.kit.images import busybox_image, write_layout
from tests.kit.trying import own_workplace, try_layout

LIMITS = Limits(alive_seconds=50, wall_seconds=900, memory_bytes=64 * 2**20, pids=400)
STUBS = """
version: 1
limits: {wall_seconds: 100}
stub:
  - name: api.internal
    port: 8080
    http: {status: 201, headers: {X-Of: stub, content-type: application/json}, body: '{"ok": true}'}
  - {name: mail.internal, port: 25, tcp: {send: "220 mail\\n", answer: "250 ok\\n"}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Workplace]]:
    """A worker's place, and a layout beside it with one image: a busybox whose entrypoint is its shell."""
    layout = tmp_path_factory.mktemp("layout")
    write_layout(layout, busybox_image(["exit 0"], entrypoint=["/bin/sh", "-c"]))
    with own_workplace() as opened:
        yield layout, opened


async def tried(place: tuple[Path, Workplace], text: str) -> tuple[Report, Judgement]:
    spec = parse_run_spec(text)
    report = await try_layout(str(place[0]), place[1], spec=spec, limits=LIMITS)
    return report, judge(report, asked=asked_by(spec.canonical()))


def of(report: Report, case: str) -> Run:
    return next(run for run in report.runs if run.case == case)


def script(text: str) -> str:
    return json.dumps([text])


async def test_an_image_finds_them_and_what_it_asks_is_known(place: tuple[Path, Workplace]) -> None:
    if place[1].runtime.info.kernel == "own":
        report, judgement = await tried(place, STUBS)
        assert judgement.reason.startswith("isolation-missing: the run spec has a stub")
        return
    asks = (
        "wget -S -O - http://api.internal:8080/v1/things?n=1 2>&1; "
        "wget -q -O - --post-data=x http://api.internal:8080/v1/orders; "
        "(echo HELO; sleep 0.2; echo QUIT; sleep 0.2) | nc mail.internal 25; "
        "nc 127.0.0.1 25 < /dev/null; grep internal /etc/hosts; exec sleep 600"
    )
    report, judgement = await tried(
        place,
        STUBS
        + f"""
cases:
  - name: asks
    args: {script(asks)}
    expect:
      log: [{{match: "HTTP/1.1 201 Created"}}, {{match: "X-Of: stub"}}, {{match: '"ok": true'}},
            {{match: "^220 mail"}}, {{match: "^250 ok"}}]
      stub:
        - {{name: api.internal, method: POST, path: ^/v1/orders$}}
        - {{name: api.internal, times: 2}}
        - {{name: mail.internal, port: 25, times: 2}}
      no_outbound: true
      below: {{start_seconds: 50}}
  - name: ends-at-once
    args: {script("exec nc mail.internal 25 < /dev/null > /dev/null")}
    expect: {{exit: 0, stub: [{{name: mail.internal}}]}}
  - name: asks-not
    args: {script("exec sleep 600")}
    expect: {{stub: [{{name: api.internal, within_seconds: 0.5}}]}}
  - name: without
    stub: []
    args: {script("grep internal /etc/hosts || nc 127.0.0.1 25 || exit 7")}
    expect: {{exit: 7}}
""",
    )
    assert report.error is None
    assert [run.met() for run in report.runs] == [True, True, False, True], report.model_dump_json(indent=1)
    api, mail = of(report, "asks").stubs
    assert (api.name, api.port, api.connections, api.full) == ("api.internal", 8080, 2, False)
    assert [(one.method, one.path, one.times) for one in api.requests] == [
        ("GET", "/v1/things?n=1", 1),
        ("POST", "/v1/orders", 1),
    ]
    assert (mail.connections, mail.requests) == (2, ())
    assert of(report, "asks").outbound == ()
    assert of(report, "without").stubs == ()
    assert judgement.verdict == "fail"
    assert "the stub api.internal is asked within 0.5 s; seen: asked 0 times" in judgement.reason


async def test_what_a_hostile_image_does_to_one(place: tuple[Path, Workplace]) -> None:
    if place[1].runtime.info.kernel == "own":
        pytest.skip("a network of its own has no stubs")
    junk = "head -c 40000 /dev/urandom > /tmp/j; nc api.internal 8080 < /tmp/j | head -n 1; "
    many = serving.MAX_OPEN + 10
    silent = f"i=0; while test $i -lt {many}; do sleep 600 | nc mail.internal 25 & i=$((i+1)); done; "
    binds = "nc -l -p 8080 -e /bin/true && exit 9; "
    flood = (
        "head -c 100000000 /dev/zero | nc mail.internal 25 > /dev/null; i=0; "
        "while nc mail.internal 25 < /dev/null; do i=$((i+1)); test $i -lt 200 || exit 8; sleep 0.1; done; "
        "nc api.internal 8080 < /dev/null && exit 8; exit 0"
    )
    report, _ = await tried(
        place,
        STUBS
        + f"""
cases:
  - name: junk
    args: {script(junk + binds + "wget -q -O - http://api.internal:8080/after")}
    expect:
      exit: 0
      log: [{{match: "400 Bad Request"}}, {{match: ok}}, {{match: "(?i)address already in use"}}]
      stub: [{{name: api.internal, path: after}}]
  - name: silent
    args: {script(silent + "sleep 2; wget -q -O - http://api.internal:8080; exec sleep 600")}
    expect: {{stub: [{{name: mail.internal, times: {many}, within_seconds: 10}}, {{name: api.internal}}]}}
  - name: flood
    args: {script(flood)}
    expect: {{exit: 0}}
  - name: flood-and-asked
    args: {script(flood)}
    expect: {{exit: 0, stub: [{{name: api.internal}}]}}
""",
    )
    assert [run.met() for run in report.runs] == [True, False, True, None], report.model_dump_json(indent=1)
    assert [one.full for one in of(report, "flood").stubs] == [True, True]
    # The others wait, and those of the other stub do not.
    (silenced, other) = of(report, "silent").observations
    assert (silenced.seen, other.met) == (f"asked {serving.MAX_OPEN} times", True)
    (_, last) = of(report, "flood-and-asked").observations
    assert last.seen == "asked 0 times; it took no more: a limit was reached"


async def test_it_ends_with_its_run_and_a_run_without_it_tells_nothing(place: tuple[Path, Workplace]) -> None:
    if place[1].runtime.info.kernel == "own":
        pytest.skip("a network of its own has no stubs")
    spec = f"{STUBS}args: {script('sleep 600')}\nexpect: {{stub: [{{name: api.internal}}]}}"
    for victim, message in (("stub", "the stub that the worker has"), ("supervisor", "supervisor failed")):
        trying = asyncio.create_task(tried(place, spec))
        async with asyncio.timeout(60):
            while not (found := named("stub")):  # noqa: ASYNC110  (another process makes it)
                await asyncio.sleep(0.02)
        (stub,) = found
        os.kill(stub if victim == "stub" else parent_of(stub), signal.SIGKILL)
        report, judgement = await trying
        assert judgement.verdict == "error"
        assert report.error is not None
        assert (report.error.reason, report.error.retryable) == ("worker-error", True)
        assert message in report.error.message
        async with asyncio.timeout(60):
            while alive(stub):  # noqa: ASYNC110  (as above)
                await asyncio.sleep(0.02)


def named(comm: str) -> list[int]:
    """Processes of this name that descend from this one."""
    below, found = [os.getpid()], []
    while below:
        pid = below.pop()
        with suppress(OSError):
            found += [pid] * (Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == comm)
            for task in Path(f"/proc/{pid}/task").iterdir():
                below += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def alive(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and state_and_parent(path)[0] != "Z"


def parent_of(pid: int) -> int:
    return int(state_and_parent(Path(f"/proc/{pid}/stat"))[1])


def state_and_parent(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
