"""Run specs: what is taken, and that hostile text gets a sentence and not a crash."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.contract.limits import Limits
from registry.contract.specfile import parse_image_spec, parse_run_spec
from registry.errors import RequestInvalidError

FULL = """
version: 1
command: [/bin/sh, -c, "exit 3"]
env: {MODE: test}
user: app:staff
profile: restricted
limits: {memory_bytes: 8388608, alive_seconds: 1.5}
expect:
  exit: 3
  log: [{match: 'ready in \\d+ ms'}]
  http: [{port: 8080, path: /health, status: 204, body: ok}]
  tcp: [{port: 5432}]
"""


def test_everything_that_a_spec_can_say() -> None:
    spec = parse_run_spec(FULL)
    assert spec.command == ("/bin/sh", "-c", "exit 3")
    assert spec.expect.http[0].path == "/health"
    assert spec.limits.alive_seconds == 1.5
    assert parse_run_spec(spec.canonical()) == spec


@pytest.mark.parametrize("cpus", ["0.00001", "1e-05", "1E-5", "2.5e+2"])
def test_what_is_stored_can_be_read_whatever_its_numbers(cpus: str) -> None:
    """JSON has an exponent without a point, which YAML 1.1 takes for a text."""
    spec = parse_run_spec(f"version: 1\nlimits: {{cpus: {cpus}}}")
    assert parse_run_spec(spec.canonical()) == spec
    assert parse_run_spec("{version: 1, env: {A: '1e5', B: 1e5x}}").env == {"A": "1e5", "B": "1e5x"}


def test_one_meaning_has_one_digest() -> None:
    yaml = "expect: {exit: 0}\nversion: 1\nprofile: standard\n"
    json = '{"version": 1, "expect": {"exit": 0}}'
    assert parse_run_spec(yaml).canonical() == parse_run_spec(json).canonical()
    other = parse_run_spec('{"version": 1, "expect": {"exit": 1}}')
    assert parse_run_spec(json).canonical() != other.canonical()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "spec"),
        ("[]", "spec"),
        ("just text", "spec"),
        ("{}", "version"),
        ("version: 2", "version"),
        ("version: '1'", "version"),
        ("version: true", "version"),
        ("version: 1\nsurprise: 1", "surprise"),
        ("version: 1\ncommand: []", "command"),
        ("version: 1\ncommand: /bin/sh", "command"),
        ("version: 1\ncommand: [1]", "command"),
        ('version: 1\ncommand: ["a\\0b"]', "command"),
        ("version: 1\nenv: {'1A': x}", "env"),
        ("version: 1\nenv: {A: 1}", "env"),
        ("version: 1\nuser: '../root'", "user"),
        ("version: 1\nuser: 'a:b:c'", "user"),
        ("version: 1\nprofile: privileged", "profile"),
        ("version: 1\nlimits: {memory_bytes: -1}", "limits.memory_bytes"),
        ("version: 1\nlimits: {wall_seconds: .inf}", ""),
        ("version: 1\nlimits: {wall_seconds: .nan}", ""),
        ("version: 1\nexpect: {exit: 256}", "expect.exit"),
        ("version: 1\nexpect: {exit: 0, alive: true}", "expect"),
        ("version: 1\nexpect: {log: [{match: '('}]}", "expect.log.0.match"),
        ("version: 1\nexpect: {log: [{match: '(?=x)'}]}", "expect.log.0.match"),
        ("version: 1\nexpect: {log: [{match: '(a)\\1'}]}", "expect.log.0.match"),
        ("version: 1\nexpect: {http: [{port: 0}]}", "expect.http.0.port"),
        ("version: 1\nexpect: {http: [{port: 80, path: 'x'}]}", "expect.http.0.path"),
        ('version: 1\nexpect: {http: [{port: 80, path: "/a\\r\\nHost: x"}]}', "expect.http.0.path"),
        ("version: 1\nexpect: {tcp: [{port: 70000}]}", "expect.tcp.0.port"),
        ("version: 1\ninit: yes-please", "init"),
        ("version: 1\nexpect: {exec: [{command: []}]}", "expect.exec.0.command"),
        ('version: 1\nexpect: {exec: [{command: [""]}]}', "expect.exec.0.command"),
        ("version: 1\nexpect: {exec: [{command: [a], match: '('}]}", "expect.exec.0.match"),
        ("version: 1\nexpect: {exec: [{command: [a], exit: 256}]}", "expect.exec.0.exit"),
        ("version: 1\nexpect: {file: [{path: a/b}]}", "expect.file.0.path"),
        ("version: 1\nexpect: {file: [{path: //}]}", "expect.file.0.path"),
        ("version: 1\nexpect: {file: [{path: /a/../b}]}", "expect.file.0.path"),
        ("version: 1\nexpect: {file: [{path: //proc/1/root}]}", "expect.file.0.path"),
        ('version: 1\nexpect: {file: [{path: "/a\\0"}]}', "expect.file.0.path"),
        ("version: 1\nexpect: {file: [{path: /a, mode: '0999'}]}", "expect.file.0.mode"),
        ("version: 1\nexpect: {file: [{path: /a, absent: true, kind: file}]}", "expect.file.0"),
        ("version: 1\nexpect: {file: [{path: /a, kind: folder, match: x}]}", "expect.file.0"),
        ("version: 1\nexpect: {file: [{path: /a, kind: link, mode: '0777'}]}", "expect.file.0"),
        ("version: 1\nexpect: {stop: {within_seconds: 0}}", "expect.stop.within_seconds"),
        ("version: 1\nexpect: {stop: {within_seconds: 301}}", "expect.stop.within_seconds"),
        ("version: 1\nexpect: {exit: 0, stop: {}}", "expect"),
    ],
)
def test_what_is_not_allowed_is_named(text: str, where: str) -> None:
    with pytest.raises(RequestInvalidError) as raised:
        parse_run_spec(text)
    assert where in raised.value.message


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\nb: *a",  # an alias
        "a: &a [*a]",  # one that holds itself
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "? [1, 2]\n: 3",
        "version: 1\n---\nversion: 1",
        "\x00",
        "\ud800",
        "version: 1\nenv: {A: \u0007}",
        "{" * 5000,
        "[" * 30000,
        "- " * 20000,
        "version: 0o1",
        "version: 1\ncommand: [" + "x," * 40000 + "]",
    ],
)
def test_hostile_yaml_is_refused_quickly(text: str) -> None:
    started = time.process_time()
    with pytest.raises(RequestInvalidError):
        parse_run_spec(text)
    assert time.process_time() - started < 10


def test_a_long_text_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(RequestInvalidError, match="at most 65536 bytes"):
        parse_run_spec("#" * 65537)


def test_a_hungry_pattern_is_no_trouble_for_re2() -> None:
    spec = parse_run_spec("version: 1\nexpect: {log: [{match: '(a+)+$'}]}")
    assert spec.expect.log[0].match == "(a+)+$"


@pytest.mark.parametrize("member", ["command: [x]", "env: {A: x}", "user: root", "profile: standard"])
def test_labels_may_say_less(member: str) -> None:
    assert parse_run_spec(f"version: 1\n{member}")
    with pytest.raises(RequestInvalidError):
        parse_image_spec(f"version: 1\n{member}")


@given(st.text(max_size=200))
def test_any_text_is_a_spec_or_a_clear_error(text: str) -> None:
    with suppress(RequestInvalidError):
        assert parse_run_spec(text).version == 1


def test_a_wrong_pattern_is_told_to_the_caller_and_not_to_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestInvalidError, match="not an RE2 pattern"):
        parse_run_spec('{"version": 1, "expect": {"log": [{"match": "(\\n{\\"event\\":\\"forged\\"}"}]}}')
    assert capfd.readouterr() == ("", "")


def test_a_network_has_places_and_each_is_one() -> None:
    spec = parse_run_spec("{version: 1, network: {egress: [{host: a.example, port: 443}]}}")
    assert spec.network is not None
    assert spec.network.egress[0].protocol == "tcp"
    for egress in (
        "[]",
        "[{port: 443}]",
        "[{host: a.example, cidr: 1.2.3.0/24, port: 1}]",
        "[{host: a b, port: 1}]",
        "[{host: a.example, port: 0}]",
        "[{cidr: 1.2.3.4/24, port: 1}]",
        "[{cidr: '::/0', port: 1}]",
        "[{host: a.example, port: 1, protocol: icmp}]",
    ):
        with pytest.raises(RequestInvalidError, match="network"):
            parse_run_spec(f"{{version: 1, network: {{egress: {egress}}}}}")


def test_an_image_cannot_ask_for_a_network() -> None:
    with pytest.raises(RequestInvalidError, match="network"):
        parse_image_spec("{version: 1, network: {egress: [{host: a.example, port: 443}]}}")


def test_an_older_worker_sees_nothing_of_what_is_not_asked_for() -> None:
    assert "network" not in parse_run_spec("{version: 1}").model_dump()
    assert "io_bytes_per_second" not in Limits().model_dump()
    assert "io_bytes_per_second" not in parse_run_spec("{version: 1}").model_dump_json()


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("version: 1", "2430f1a2ad2982d0067885488a4c89e21ad1d7c8"),
        (
            "{version: 1, command: [/a], limits: {pids: 9}, expect: {alive: true, http: [{port: 80}]}}",
            "1a5c2369e2067045dd262c5ab626d797511c51e7",
        ),
    ],
)
def test_specs_of_before_are_known_by_the_same_digest(text: str, digest: str) -> None:
    """Else every image would be tried anew, and a worker of the version before could not read them."""
    spec = parse_run_spec(text)
    canonical = spec.canonical()
    assert hashlib.sha256(canonical.encode()).hexdigest()[:40] == digest
    for name in ("exec", "file", "stop", "init"):
        assert f'"{name}"' not in spec.model_dump_json()


def test_a_pattern_that_is_short_and_takes_megabytes() -> None:
    """32 of them took five seconds and 200 MB of the registry that was handed them."""
    with pytest.raises(RequestInvalidError, match=r"log.0.match: .*pattern too large"):
        parse_run_spec(r"{version: 1, expect: {log: [{match: '\pL{440}'}]}}")
    parse_run_spec(r"{version: 1, expect: {log: [{match: '(?i)^.{1000}[^a-z]{1,900}é$'}]}}")
