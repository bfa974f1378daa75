"""The admin API holds to its own description, and takes nothing that is not in it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.http.api.routes import Route
from registry.http.api.shape import shape_of
from registry.http.api.table import ROUTES, description
from tests.kit.access import Answer, api, ask
from tests.kit.distribution import push_image
from tests.kit.server import Registry, RegistryProcess
from tests.kit.trials import tiny_image

EXAMPLES = 4
SMUGGLED = {
    "is_admin": True,
    "id": 1,
    "account_id": 1,
    "kind": "user",
    "scopes ": ["admin"],
    "__class__": "x",
}
ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "412", "422", "429", "5xx"]
BEYOND_SCHEMAS = {
    # Operations that may refuse what their schema allows, and the rule that it cannot say.
    "GET /api/v1/trials": "tag, digest and wait go with an image; an image with a tag takes no second one",
    "GET /api/v1/packages": "it has a name or an advisory, and a range of versions has bounds",
    "GET /api/v1/gate": "an image with a tag or digest takes no second one",
    "POST /api/v1/gate/block": "a reason has printable characters only",
    "POST /api/v1/gate/blocks": "a place is a repository, a namespace with a slash at its end, or *",
    "POST /api/v1/gate/blocks/preview": "a place is a repository, a namespace with a slash at its end, or *",
    "GET /api/v1/gate/blocks": "a place is a repository, a namespace with a slash at its end, or *",
    "GET /api/v1/gate/preview": "a place is a repository, or a namespace with a slash at its end",
    "POST /api/v1/gate/pauses": "a pause ends within 7 days",
    "POST /api/v1/promotions": "a reason has printable characters only",
    "POST /api/v1/waivers": "a waiver ends within some days",
    "POST /api/v1/schedules": "it has hours or a time of day",
    "GET /api/v1/schedules": "a place is a repository, or a namespace with a slash at its end",
    **{
        f"POST /api/v1/repositories/{{name}}/tags/{{tag}}/{word}": "a reason has printable characters only"
        for word in ("rollback", "restore", "move", "copy")
    },
    "GET /api/v1/tag-rules": "a place is a repository, or a namespace with a slash at its end",
    "POST /api/v1/tag-rules": "a pattern is one of its kind",
    "GET /api/v1/retention": "a place is a repository, or a namespace with a slash at its end",
    "PUT /api/v1/retention": "a policy says something, and has one schedule",
    "DELETE /api/v1/retention": "a place is a repository, or a namespace with a slash at its end",
    "GET /api/v1/retention/policies": "a place is a repository, or a namespace with a slash at its end",
    "POST /api/v1/retention/preview": "a policy says something, and has one schedule",
    "POST /api/v1/retention/runs": "a place is a repository, or a namespace with a slash at its end",
    "GET /api/v1/quota": "a place is a repository, or a namespace with a slash at its end",
    "PATCH /api/v1/quota": "a place is a repository, or a namespace with a slash at its end",
    "DELETE /api/v1/quota": "a place is a repository, or a namespace with a slash at its end",
    "POST /api/v1/signature-rules": "a rule names a key, or an issuer and a subject",
    "GET /api/v1/signature-rules": "a place is a repository, or a namespace with a slash at its end",
    "GET /api/v1/findings-policy": "a place is a repository, or a namespace with a slash at its end",
    "DELETE /api/v1/findings-policy": "a place is a repository, or a namespace with a slash at its end",
    "PUT /api/v1/findings-policy": "a policy is more than its schema says",
    "POST /api/v1/findings-policy/preview": "a policy is more than its schema says",
    "GET /api/v1/scanners": "a place is a repository, or a namespace with a slash at its end",
    "PUT /api/v1/scanners": "names of scanners and of images have rules of their own",
    "POST /api/v1/scanners/preview": "names of scanners and of images have rules of their own",
    "DELETE /api/v1/scanners": "a place is a repository, or a namespace with a slash at its end",
    "POST /api/v1/hooks": "it is of a repository or of a namespace",
    "POST /api/v1/secrets": "it is of a repository or of a namespace",
    "GET /api/v1/secrets": "they are of a repository or of a namespace",
    "POST /api/v1/upstreams": "hosts, names of repositories and users have rules of their own",
    "PATCH /api/v1/upstreams/{name}": "users and passwords have rules of their own",
    "POST /api/v1/webhooks": "it is of a repository, of a namespace or of all",
    "POST /api/v1/repositories": "a run spec has rules of its own",
    "PATCH /api/v1/repositories/{name}": "a run spec has rules of its own",
    "PUT /api/v1/repositories/{name}/readme": "a text is more than white space",
    "POST /api/v1/issuers": "an address is that of a server; roles need a claim; a condition says something",
    "POST /api/v1/workload-rules": "a condition says something, and scopes are for repositories",
    "POST /api/v1/tokens": "a worker's token takes neither name nor scopes, another needs both",
    "POST /api/v1/tokens/revoke": "an account is named, or everybody is, and not both",
    "PATCH /api/v1/tokens/{token_id}": "networks are written as in 10.0.0.0/8",
    "PATCH /api/v1/workers/{name}": "namespaces, labels and networks have rules of their own",
    "POST /api/v1/trials": "a run spec has rules of its own",
    "PUT /api/v1/repositories/{name}": "a run spec has rules of its own",
    "GET /api/v1/access/explain": "a target is a repository or a namespace with a slash at its end",
    "PATCH /api/v1/issuers/{name}": "an address, a group and a claim have rules of their own",
    "POST /api/v1/issuers/{name}/identities": "a subject has printable characters only",
    "PATCH /api/v1/workload-rules/{name}": "conditions on claims have rules of their own",
    "POST /api/v1/workload-explanations": "a token has three parts",
    "POST /api/v1/htpasswd-imports": "an htpasswd file has rules of its own",
    "POST /api/v1/users/{name}/password": "a password does not begin like a token",
    "POST /api/v1/users": "a password does not begin like a token",
    "PUT /api/v1/repositories/{name}/members/{member}": "a robot holds roles below its namespace only",
    "PUT /api/v1/namespaces/{name}/members/{member}": "a robot holds roles below its namespace only",
}
LAST = "/api/v1/tokens/revoke"
"""It revokes the token that the run has."""


def configuration() -> str:
    """What schemathesis is told."""
    # What a list names is sent nowhere else: the run would revoke its own token.
    phases = ("examples", "coverage", "fuzzing")
    lines = [f"[phases.{phase}]\nextra-data-sources = {{ responses = false }}" for phase in phases]
    assert set(BEYOND_SCHEMAS) <= {f"{route.method} /api/v1{route.path}" for route in ROUTES}
    lines += ["[checks.positive_data_acceptance]", f"expected-statuses = {ACCEPTED}"]
    # Nothing comes up that it could wait for.
    lines += ["[parameters]", '"query.wait" = 0']
    # A cursor is what a list said before, and the value "0" of a condition is taken for valid whatever its
    # pattern says.
    opaque = [
        f"{route.method} /api/v1{route.path}"
        for route in ROUTES
        if (shape := shape_of(route.handler)).is_conditional or "cursor" in shape.query.model_fields
    ]
    for name in dict.fromkeys([*BEYOND_SCHEMAS, *opaque]):
        lines += [
            "[[operations]]",
            f'include-name = "{name}"',
            "[operations.checks.positive_data_acceptance]",
        ]
        lines += [f"expected-statuses = {['400', *ACCEPTED]}"]
    # Where an address looks like a name too, ``Allow`` has what that takes as well.
    own = {route.path: re.sub("{[a-z_]+}", "[^/]+", route.path) for route in ROUTES}
    for path, template in own.items():
        if not any(re.fullmatch(other, path) for other in own.values() if other != template):
            continue
        lines += ["[[operations]]", f'include-path = "/api/v1{path}"']
        lines += ["[operations.checks.allow_header_conformance]", "enabled = false"]
    return "\n".join(lines)


@pytest.mark.timeout(900)
async def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    process = RegistryProcess(tmp_path / "data")
    registry = process.start()
    try:
        async with registry.client() as client:
            # What the examples of the description name.
            await push_image(client, "team/app", "1.0", tiny_image())
        config = tmp_path / "schemathesis.toml"
        config.write_text(configuration())
        said = _run(registry, config, "--exclude-path", LAST)
        # It leaves out where it has the description from.
        assert f"{len(ROUTES) - 2} selected / {len(ROUTES) - 1} total" in said
        async with registry.client() as client:
            await api(client, "GET", "/users")  # with a token that still opens what it opened
        _run(registry, config, "--include-path", LAST)
    finally:
        process.stop()
    assert '"status": 500' not in process.log.read_text()


def _run(registry: Registry, config: Path, *arguments: str) -> str:
    program = str(Path(sys.executable).parent / "schemathesis")
    ran = subprocess.run(
        [
            *(
                program,
                "--config-file",
                str(config),
                "run",
                f"{registry.url}/api/v1/openapi.json",
                *arguments,
            ),
            *("--header", f"Authorization: Bearer {registry.token}"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)),
            *("--generation-deterministic", "--continue-on-failure"),
            # Wrong credentials by the dozen are answered with 429; another test asks each route for 401.
            *("--exclude-checks", "ignored_auth"),
            *("--generation-allow-x00", "false", "--no-color"),
        ],
        cwd=config.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


async def test_the_description_is_there_for_everybody(nobody: aiohttp.ClientSession) -> None:
    answer = await ask(nobody, "GET", "/api/v1/openapi.json")
    assert answer.json == description()
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert answer.json["openapi"].startswith("3.1.")


async def test_no_route_takes_a_key_or_a_parameter_that_it_does_not_declare(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    before = await _all(client)
    tried = 0
    for route in ROUTES:
        known = shape_of(route.handler).body.model_fields
        if route.method != "GET":
            for key, value in SMUGGLED.items():
                assert key not in known
                answer = await _send(client, route, json={key: value})
                assert (answer.status, answer.json["code"]) == (400, "REQUEST_INVALID"), (route.path, key)
                assert f"{key}: Extra inputs are not permitted" in answer.json["detail"]
                tried += 1
        answer = await _send(client, route, params={"is_admin": "true"})
        assert answer.status == 400, route.path
        assert "there is no parameter 'is_admin'" in answer.json["detail"]
        tried += 1
    assert tried > len(ROUTES) * 2
    assert await _all(client) == before


async def _send(
    client: aiohttp.ClientSession, route: Route, *, params: dict[str, str] | None = None, json: Any = None
) -> Answer:
    path = "/api/v1" + route.path.replace("{", "").replace("}", "")
    fields = shape_of(route.handler).query.model_fields
    asked = {name: "x" for name, field in fields.items() if field.is_required()} | (params or {})
    options = {} if json is None else {"json": json}
    return await ask(
        client, route.method, path, headers={"Sec-Fetch-Site": "same-origin"}, params=asked, **options
    )


async def _all(client: aiohttp.ClientSession) -> list[Any]:
    lists = ("/users", "/tokens", "/workers", "/repositories", "/sessions")
    found = [item for path in lists for item in (await api(client, "GET", path))["items"]]
    return [
        {name: value for name, value in item.items() if not name.startswith("last_used")} for item in found
    ]
