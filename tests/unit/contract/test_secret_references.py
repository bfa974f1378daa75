"""Environment values that name secrets: where they may stand, and what becomes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.contract.limits import Limits
from registry.contract.plan import Plan, make_plans
from registry.contract.runspec import IMAGE_LABEL
from registry.contract.secrets import MAX_BYTES, require_name, require_value
from registry.contract.specfile import parse_run_spec, run_spec_schema
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import ImageConfig
from registry.oci.platform import Platform


def plans(text: str, secrets: dict[str, str], **members: Any) -> list[Plan]:
    config = ImageConfig(Platform("linux", "amd64"), (), **({"cmd": ("/app",)} | members))
    return list(
        make_plans(
            config,
            parse_run_spec(f"version: 1\n{text}"),
            limits=Limits(),
            ceiling=Limits(wall_seconds=900),
            image_spec_allowed=True,
            secrets=secrets,
        )
    )


def test_a_spec_has_the_name_and_the_plan_the_value() -> None:
    spec = parse_run_spec("{version: 1, env: {A: {secret: DB.pass-1}, B: b}}")
    assert spec.canonical() == '{"env":{"A":{"secret":"DB.pass-1"},"B":"b"},"version":1}'
    assert parse_run_spec(spec.canonical()) == spec
    (plan,) = plans("env: {A: {secret: X}, B: b}", {"X": "hidden value"}, env=("A=old",))
    assert plan.env[-2:] == ("A=hidden value", "B=b")
    assert "hidden" not in repr(plan)
    assert run_spec_schema()["$defs"]["SecretReference"]["required"] == ["secret"]


def test_cases_name_their_own() -> None:
    text = "env: {A: {secret: X}}\ncases: [{name: one, env: {B: {secret: Y}}}, {name: two, env: {A: plain}}]"
    assert parse_run_spec(f"version: 1\n{text}").secrets() == {"X", "Y"}
    one, two = plans(text, {"X": "of all x", "Y": "of one y"})
    assert {"A=of all x", "B=of one y"} <= set(one.env)
    assert "A=plain" in two.env
    assert not any("of all" in entry for entry in two.env)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("env: {A: {secret: ''}}", "env.A"),
        ("env: {A: {secret: a/b}}", "env.A"),
        (f"env: {{A: {{secret: {'x' * 65}}}}}", "env.A"),
        ("env: {A: {secret: a, value: b}}", "env.A"),
        ("env: {A: {}}", "env.A"),
        (
            f"env: {{{', '.join(f'A{n}: {{secret: s{n}}}' for n in range(17))}}}",
            "17 secrets; 16 are the limit",
        ),
    ],
)
def test_what_is_no_reference(text: str, why: str) -> None:
    with pytest.raises(RequestInvalidError) as raised:
        parse_run_spec(f"version: 1\n{text}")
    assert why in raised.value.message


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(RequestInvalidError, match="names the secret 'X', and there is none"):
        plans("env: {A: {secret: X}}", {"Y": "something"})


def test_an_image_cannot_name_one() -> None:
    label = json.dumps({"version": 1, "env": {"A": {"secret": "X"}}})
    with pytest.raises(RequestInvalidError, match="there is no such key"):
        plans("expect: {exit: 0}", {"X": "hidden value"}, labels={IMAGE_LABEL: label})
    exec_ = {"exec": [{"command": [{"secret": "X"}]}]}
    with pytest.raises(RequestInvalidError, match="command"):
        plans("", {}, labels={IMAGE_LABEL: json.dumps({"version": 1, "expect": exec_})})


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "a\n", "x" * 65, "ä"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(RequestInvalidError, match="no name of a secret"):
        require_name(name)


@pytest.mark.parametrize("value", ["1234567", "x" * (MAX_BYTES + 1), "12345678\0", "12345678\ud800"])
def test_values_that_are_none_are_not_repeated(value: str) -> None:
    with pytest.raises(RequestInvalidError) as raised:
        require_value("A", value)
    assert "1234567" not in raised.value.message
    assert "xxx" not in raised.value.message
    require_value("A", "12345678")
