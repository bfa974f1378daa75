"""Stubs in run specs: what may stand together, and what an HTTP one says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.contract.limits import Limits
from registry.contract.plan import Plan, make_plans
from registry.contract.report import Run, StubRequest, StubUse
from registry.contract.runspec import IMAGE_LABEL
from registry.contract.specfile import parse_run_spec
from registry.contract.stubs import HttpStub
from registry.contract.use import use_lines
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import ImageConfig, Port
from registry.oci.platform import Platform
from sandbox.network.serving import http_answer

WEB = "{name: api.internal, port: 8080, http: {}}"
MAIL = "{name: mail, port: 25, tcp: {send: hello}}"


def plans(text: str, **members: Any) -> list[Plan]:
    config = ImageConfig(Platform("linux", "amd64"), (), **({"cmd": ("/app",)} | members))
    ceiling = Limits(wall_seconds=900)
    spec = parse_run_spec(f"version: 1\n{text}")
    return list(make_plans(config, spec, limits=Limits(), ceiling=ceiling, image_spec_allowed=True))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("stub: [{name: api, port: 1}]", "stub.0: give either 'http' or 'tcp'"),
        ("stub: [{name: api, port: 1, http: {}, tcp: {}}]", "stub.0: give either 'http' or 'tcp'"),
        ("stub: []", "stub: "),
        ("stub: [{name: API, port: 1, tcp: {}}]", "stub.0.name: 'API' is not a host name"),
        ("stub: [{name: 'a b', port: 1, tcp: {}}]", "stub.0.name"),
        ("stub: [{name: localhost, port: 1, tcp: {}}]", "'localhost' is the run itself"),
        ("stub: [{name: a, port: 0, tcp: {}}]", "stub.0.port"),
        (f"stub: [{WEB}, {{name: b, port: 8080, tcp: {{}}}}]", "two stubs on port 8080"),
        (f"stub: [{', '.join([WEB] * 9)}]", "stub: "),
        ("stub: [{name: a, port: 1, http: {status: 100}}]", "stub.0.http.status"),
        ('stub: [{name: a, port: 1, http: {headers: {A: "b\\r\\nC: d"}}}]', "no header of printable ASCII"),
        ("stub: [{name: a, port: 1, http: {headers: {Content-Length: '9'}}}]", "is the stub's own"),
        (f"stub: [{{name: a, port: 1, tcp: {{send: {'x' * 16385}}}}}]", "stub.0.tcp.send"),
        (f"stub: [{WEB}]\nexpect: {{http: [{{port: 8080}}]}}", "cannot have port 8080: it is the image's"),
        (f"stub: [{WEB}]\nexpect: {{tcp: [{{port: 8080}}]}}", "cannot have port 8080: it is the image's"),
        ("expect: {stub: [{name: api}]}", "there is no stub 'api'"),
        (f"stub: [{WEB}]\nexpect: {{stub: [{{name: api.internal, port: 80}}]}}", "no stub 'api.internal:80'"),
        (f"stub: [{MAIL}]\nexpect: {{stub: [{{name: mail, path: x}}]}}", "the stub mail is for TCP"),
        (f"stub: [{MAIL}]\nexpect: {{stub: [{{name: mail, path: '('}}]}}", "not an RE2 pattern"),
        (f"stub: [{MAIL}]\nexpect: {{stub: [{{name: mail, times: 0}}]}}", "expect.stub.0.times"),
        (
            f"cases: [{{name: x, stub: [{MAIL}], expect: {{stub: [{{name: fax}}]}}}}]",
            "case x: there is no stub",
        ),
        (
            f"stub: [{MAIL}]\nnetwork: {{egress: [{{host: mail, port: 25}}]}}",
            "mail is a stub, and a place outside",
        ),
    ],
)
def test_what_cannot_be_is_named(text: str, why: str) -> None:
    with pytest.raises(RequestInvalidError) as raised:
        parse_run_spec(f"version: 1\n{text}")
    assert why in raised.value.message


def test_a_case_has_the_stubs_of_the_spec_or_its_own_or_none() -> None:
    made = plans(
        f"stub: [{WEB}]\nchecks: [fails-cleanly-without-db]\n"
        f"cases: [{{name: same}}, {{name: own, stub: [{MAIL}]}}, {{name: none, stub: []}}]"
    )
    assert {plan.asked.case: [one.name for one in plan.stubs] for plan in made} == {
        "fails-cleanly-without-db": [],
        "same": ["api.internal"],
        "own": ["mail"],
        "none": [],
    }


def test_what_was_asked_tells_how_far_a_command_has_come() -> None:
    (plan,) = plans(
        f"stub: [{WEB}]\nexpect: {{below: {{start_seconds: 2}}, "
        "stub: [{name: api.internal, method: GET, path: ^/v1, times: 3}]}"
    )
    assert not plan.exit_zero_or_alive
    assert plan.tested == (
        "the stub api.internal is asked 3 times by GET for a path that matches '^/v1' within 5 s; "
        "ready within 2 s"
    )


def test_a_stub_never_stands_where_the_image_is_tested() -> None:
    with pytest.raises(RequestInvalidError, match="cannot have port 8080: it is the image's"):
        plans(f"stub: [{WEB}]", exposed_ports=(Port(8080),))
    assert plans(f"stub: [{WEB}]", exposed_ports=(Port(8080, "udp"), Port(80)))[0].any_tcp == (80,)
    label = {"version": 1, "expect": {"tcp": [{"port": 8080}]}}
    with pytest.raises(RequestInvalidError, match="it is the image's"):
        plans(f"stub: [{WEB}]", labels={IMAGE_LABEL: json.dumps(label)})


def test_a_label_may_ask_for_what_the_spec_has_and_brings_none() -> None:
    label = json.dumps({"version": 1, "expect": {"stub": [{"name": "api.internal"}]}})
    (plan,) = plans(f"stub: [{WEB}]\nexpect: {{exit: 0}}", labels={IMAGE_LABEL: label})
    assert [one.name for one in plan.stub] == ["api.internal"]
    with pytest.raises(RequestInvalidError, match=r"there is no stub 'api\.internal'"):
        plans("expect: {exit: 0}", labels={IMAGE_LABEL: label})
    brings = json.dumps({"version": 1, "stub": [{"name": "a", "port": 1, "tcp": {}}]})
    with pytest.raises(RequestInvalidError, match="there is no such key"):
        plans("expect: {exit: 0}", labels={IMAGE_LABEL: brings})


@pytest.mark.parametrize(
    ("stub", "head_only", "said"),
    [
        (HttpStub(), False, "200 OK|Content-Type: text/plain; charset=utf-8|Content-Length: 0|"),
        (
            HttpStub(status=299, body="é"),
            False,
            "299 Stub|Content-Type: text/plain; charset=utf-8|Content-Length: 2|é",
        ),
        (
            HttpStub(headers={"content-type": "a/b"}, body="x"),
            True,
            "200 OK|content-type: a/b|Content-Length: 1|",
        ),
        (
            HttpStub(status=204, headers={"A": "b"}, body="x"),
            False,
            "204 No Content|A: b|Content-Type: text/plain; charset=utf-8|",
        ),
    ],
)
def test_an_answer_over_http(stub: HttpStub, head_only: bool, said: str) -> None:
    *head, body = said.split("|")
    expected = "\r\n".join([f"HTTP/1.1 {head[0]}", *head[1:], "Connection: close", "", body])
    assert http_answer(stub, head_only=head_only).decode() == expected


def test_what_was_asked_in_words() -> None:
    requests = tuple(StubRequest(method="GET", path=f"/{number}", times=number) for number in range(1, 8))
    run = Run(
        name="smoke",
        command=(),
        exit_code=0,
        reason="exited",
        seconds=1,
        log="",
        observations=(),
        stubs=(
            StubUse(name="api", port=80, connections=28, requests=requests, full=True),
            StubUse(name="db", port=5432, connections=1),
        ),
    )
    api, database = use_lines(run.model_dump())
    assert api == (
        "stub api:80: 28 connections; GET /1; GET /2, 2 times; GET /3, 3 times; GET /4, 4 times; "
        "GET /5, 5 times; 2 more, and then took no more"
    )
    assert database == "stub db:5432: 1 connection"
