"""Cases, attempts and checks by name: what they come to, and that one run stays what it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.contract.asked import Asked, asked_by
from registry.contract.checks import CHECKS, MEANING
from registry.contract.examples import EXAMPLES
from registry.contract.limits import Limits
from registry.contract.plan import MAX_EXPECTATIONS, Plan, make_plans
from registry.contract.runspec import IMAGE_LABEL
from registry.contract.specfile import parse_run_spec
from registry.contract.starting import starting_spec
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import Healthcheck, ImageConfig, Port
from registry.oci.platform import Platform

LIMITS = Limits()
CEILING = Limits(wall_seconds=900, alive_seconds=300)
SEVERAL = """
version: 1
command: [/app, serve]
env: {A: a, B: b}
profile: restricted
limits: {pids: 9, alive_seconds: 2}
expect: {tcp: [{port: 80}]}
attempts: 2
pass: all
cases:
  - name: as-it-is
  - name: other
    args: [check]
    env: {B: c}
    limits: {alive_seconds: 1}
    profile: standard
    user: random
    read_only: false
    expect: {exit: 0}
    attempts: 3
    pass: any
"""


def image(**members: Any) -> ImageConfig:
    return ImageConfig(Platform("linux", "amd64"), (), **({"cmd": ("/app",)} | members))


def plans(text: str, config: ImageConfig | None = None, *, allowed: bool = False) -> list[Plan]:
    made = make_plans(
        config or image(),
        parse_run_spec(text),
        limits=LIMITS,
        ceiling=CEILING,
        image_spec_allowed=allowed,
    )
    return list(made)


def test_a_case_has_what_the_spec_has_unless_it_says_otherwise() -> None:
    one, other = plans(SEVERAL)
    assert (one.asked, other.asked) == (Asked("as-it-is", 2, False), Asked("other", 3, True))
    assert (one.command, other.command) == (("/app", "serve"), ("/app", "check"))
    assert set(one.env) > {"A=a", "B=b"}
    assert set(other.env) > {"A=a", "B=c"}
    assert (one.profile, one.read_only, one.random_user) == ("restricted", True, False)
    assert (other.profile, other.read_only, other.random_user) == ("standard", False, True)
    assert (one.limits.pids, one.limits.alive_seconds) == (9, 2)
    assert (other.limits.pids, other.limits.alive_seconds) == (9, 1)
    assert (len(one.tcp), one.exit_code, other.tcp, other.exit_code) == (1, None, (), 0)


def test_a_spec_with_cases_survives_being_stored_and_sent() -> None:
    spec = parse_run_spec(SEVERAL)
    assert parse_run_spec(spec.canonical()) == spec
    assert parse_run_spec(spec.model_dump_json()) == spec
    assert json.loads(spec.canonical())["cases"][0] == {"name": "as-it-is"}
    assert asked_by(spec.canonical()) == tuple(plan.asked for plan in plans(SEVERAL))


def test_one_run_says_nothing_of_cases_to_an_older_worker() -> None:
    spec = parse_run_spec("{version: 1, expect: {exit: 0, log: [{match: x}], http: [{port: 80}]}}")
    said = json.loads(spec.model_dump_json())
    new = {"args", "read_only", "writable", "attempts", "pass", "checks", "cases"}
    assert not new & said.keys()
    assert "absent" not in said["expect"]["log"][0]
    assert said["expect"]["http"][0].keys() == {"port", "path", "status", "body"}
    assert said["expect"].keys() == {"exit", "alive", "log", "http", "tcp"}
    assert asked_by(spec.canonical()) == asked_by(None) == (Asked(),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cases: [{name: a}, {name: a}]", "two cases with the name 'a'"),
        ("checks: [starts]\ncases: [{name: starts}]", "two cases with the name 'starts'"),
        ("checks: [starts, starts]", "two cases"),
        ("cases: [{name: A}]", "cases.0.name"),
        ("cases: [{args: []}]", "cases.0.name: Field required"),
        ("cases: [{name: a, require: [seccomp]}]", "cases.0.require: there is no such key"),
        ("cases: [{name: a, cases: []}]", "cases.0.cases"),
        (f"cases: [{', '.join(f'{{name: c{n}}}' for n in range(11))}]", "cases"),
        ("checks: [starts]\ncases: [" + ", ".join(f"{{name: c{n}}}" for n in range(10)) + "]", "11 cases"),
        ("attempts: 6", "attempts"),
        ("pass: most", "pass: "),
        ("checks: [is-nice]", "'is-nice' is no check; known are starts"),
        ("profile: restricted\nread_only: false", "leave read_only out"),
        ("profile: restricted\ncases: [{name: a, read_only: false}]", "case a: restricted keeps"),
        ("writable: [/proc/x]", "made by the kernel"),
        ("writable: [/]", "not an absolute path"),
        ("writable: [a]", "not an absolute path"),
        ('args: ["a\\0b"]', "args"),
    ],
)
def test_what_cannot_be_is_named(text: str, why: str) -> None:
    with pytest.raises(RequestInvalidError) as raised:
        parse_run_spec(f"version: 1\n{text}")
    assert why in raised.value.message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "attempts: 5\nchecks: [starts, restricted, healthcheck, stops-cleanly, version-only]",
            "25 runs; 20",
        ),
        (
            "attempts: 4\nlimits: {wall_seconds: 300}",
            "1200 s together, and the ceiling of wall_seconds is 900",
        ),
        (
            "attempts: 5\nlimits: {wall_seconds: 1}\nexpect: {file: ["
            + ", ".join("{path: /a}" for _ in range(32))
            + "], tcp: ["
            + ", ".join("{port: 1}" for _ in range(8))
            + "]}",
            f"200 expectations; {MAX_EXPECTATIONS}",
        ),
        ("expect: {alive: 61}", "a run ends after 60 s"),
        ("expect: {alive: true, below: {start_seconds: 3}}", "below.start_seconds"),
    ],
)
def test_the_ceilings_hold_for_all_runs_together(text: str, why: str) -> None:
    with pytest.raises(RequestInvalidError) as raised:
        plans(f"version: 1\n{text}")
    assert why in raised.value.message


def test_one_run_is_lowered_to_the_ceiling_as_before() -> None:
    (plan,) = plans("{version: 1, limits: {wall_seconds: 5000}}")
    assert plan.limits.wall_seconds == 900


@pytest.mark.parametrize(
    ("config", "spec", "command"),
    [
        (image(entrypoint=("/init", "--"), cmd=("a",)), "args: [b]", ("/init", "--", "b")),
        (image(cmd=("/app", "a")), "args: [b, c]", ("/app", "b", "c")),
        (image(cmd=("/app", "a")), "args: []", ("/app",)),
        (image(entrypoint=("/init",)), "command: [/x, y]\nargs: [z]", ("/x", "z")),
    ],
)
def test_arguments_take_the_place_of_what_follows_the_program(
    config: ImageConfig, spec: str, command: tuple[str, ...]
) -> None:
    (plan,) = plans(f"version: 1\n{spec}", config)
    assert plan.command == command


def test_arguments_of_the_spec_are_not_for_the_command_of_a_case() -> None:
    (plan,) = plans("{version: 1, args: [a], cases: [{name: x, command: [/y]}]}")
    assert plan.command == ("/y",)


def test_each_check_stands_for_a_case_with_a_meaning() -> None:
    assert set(MEANING) == set(CHECKS)
    health = image(entrypoint=("/app",), healthcheck=Healthcheck(("true",), shell=False))
    made = {one.asked.case: one for one in plans(f"{{version: 1, checks: [{', '.join(CHECKS)}]}}", health)}
    assert set(made) == set(CHECKS)
    assert made["starts"].healthcheck is not None
    restricted = made["restricted"]
    assert (restricted.random_user, restricted.read_only, restricted.profile) == (True, True, "restricted")
    assert made["stops-cleanly"].stop is not None
    assert (made["version-only"].command, made["version-only"].exit_code) == (("/app", "--version"), 0)
    assert made["fails-cleanly-without-db"].exit_code == "nonzero"
    (missing,) = plans("{version: 1, checks: [healthcheck]}")
    assert (missing.healthcheck, missing.healthcheck_missing) == (None, True)


def test_a_label_adds_to_each_case_and_takes_nothing_away() -> None:
    label = {
        "version": 1,
        "limits": {"pids": 5, "memory_bytes": 2**40},
        "expect": {
            "exit": 3,
            "below": {"cpu_seconds": 1},
            "only_writes": ["/data"],
            "no_outbound": True,
            "log": [{"match": "x", "absent": True}],
        },
    }
    config = image(labels={IMAGE_LABEL: json.dumps(label)})
    text = (
        "{version: 1, cases: [{name: a, expect: {alive: true, only_writes: [/var], below: {cpu_seconds: 9}}},"
        " {name: b, expect: {exit: 0}}]}"
    )
    for plan in plans(text, config, allowed=True):
        assert plan.limits.pids == 5
        assert plan.limits.memory_bytes == LIMITS.memory_bytes
        assert plan.no_outbound
        assert plan.log[-1].absent
        assert plan.below[-1].cpu_seconds == 1
    a, b = plans(text, config, allowed=True)
    assert (a.exit_code, a.alive_seconds, b.exit_code) == (None, 5.0, 0)
    assert a.only_writes == (("/var",), ("/data",))
    assert [one.cpu_seconds for one in a.below] == [9, 1]
    assert [plan.no_outbound for plan in plans(text, config)] == [False, False]


@pytest.mark.parametrize("member", ["cases: [{name: a}]", "checks: [starts]", "attempts: 2", "args: [x]"])
def test_a_label_has_no_runs_of_its_own(member: str) -> None:
    config = image(labels={IMAGE_LABEL: f"version: 1\n{member}"})
    with pytest.raises(RequestInvalidError, match="there is no such key"):
        plans("version: 1", config, allowed=True)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_a_spec_within_the_usual_limits(name: str) -> None:
    text = EXAMPLES[name].spec
    config = image(entrypoint=("/app",), healthcheck=Healthcheck(("true",), shell=False))
    made = plans(text, config)
    assert made
    assert parse_run_spec(parse_run_spec(text).canonical()) == parse_run_spec(text)


@pytest.mark.parametrize(
    "config",
    [
        image(),
        image(cmd=()),
        image(exposed_ports=(Port(80), Port(53, "udp"), Port(443))),
        image(healthcheck=Healthcheck(("true",), shell=False), volumes=("/data",), user="app", env=("A=1",)),
        image(cmd=("/app\n- evil: \x1b[2J", "é" * 900), user="\n# x", env=('"\n: [', "B=2"), volumes=("\n",)),
    ],
)
def test_a_starting_spec_is_one_whatever_the_image_says(config: ImageConfig) -> None:
    text = starting_spec("registry.example/app\n:1", config)
    spec = parse_run_spec(text)
    assert bool(spec.expect.healthcheck) is (config.healthcheck is not None)
    assert len(spec.expect.tcp) == len([one for one in config.exposed_ports if one.protocol == "tcp"])
    # With every choice taken it is one as well.
    assert all(line.isprintable() for line in text.splitlines())
