"""Jobs that sign in with what their issuer gave them, on both databases, with real requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jwt.utils import base64url_decode, base64url_encode

from tests.kit.access import api, ask, basic, bearer, make_repository, make_user, registry_token
from tests.kit.distribution import push_image, push_small
from tests.kit.issuer import LOOPBACK, Issuer, running_issuer
from tests.kit.server import Registry, running_registry
from tests.kit.trials import tiny_image
from tests.kit.workloads import (
    AUDIENCE,
    MAIN,
    SUBJECT,
    exchange,
    job_token,
    make_rule,
    trust,
)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as running:
        yield running


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    """One that may ask issuers on loopback."""
    async with running_registry(tmp_path / "data", database_url, outgoing_networks=LOOPBACK) as running:
        yield running


@pytest.fixture
async def trusted(client: aiohttp.ClientSession, issuer: Issuer) -> Issuer:
    """The issuer, trusted as ``ci``, with the rule ``main``."""
    await trust(client, issuer, run_url="https://ci.example/{repository}/runs/{run_id}")
    await make_rule(client)
    return issuer


async def test_a_job_gets_a_token_that_every_client_takes(
    registry: Registry, nobody: aiohttp.ClientSession, client: aiohttp.ClientSession, trusted: Issuer
) -> None:
    answer = await exchange(nobody, job_token(trusted))
    assert answer.status == 200, answer.body
    assert answer.headers["Cache-Control"] == "no-store"
    told = answer.json
    assert told["expires_in"] == 900
    assert told["token_type"] == "Bearer"
    assert told["scope"] == "repository:team/*:pull,push"
    text = told["access_token"]
    async with registry.client(text, user="anybody") as job:
        await push_small(job, "team/app", "1")
        refused = await ask(job, "POST", "/v2/other/app/blobs/uploads/")
        assert refused.status == 403
    assert (await ask(nobody, "GET", "/v2/team/app/tags/list", headers=bearer(text))).status == 200
    listed = await api(client, "GET", "/tokens")
    assert any(token["name"] == "job by rule main" for token in listed["items"])


async def test_the_token_of_the_issuer_is_a_password_as_it_stands(
    registry: Registry, nobody: aiohttp.ClientSession, trusted: Issuer
) -> None:
    text = job_token(trusted)
    token = await registry_token(nobody, "repository:team/app:pull,push", headers=basic("oidc", text))
    answer = await ask(nobody, "POST", "/v2/team/app/blobs/uploads/", headers=bearer(token))
    assert answer.status == 202
    async with registry.client(text, user="oidc") as job:
        await push_small(job, "team/app", "1")
    form = {"grant_type": "password", "username": "oidc", "password": text, "service": "seatrial"}
    granted = await ask(nobody, "POST", "/token", data={**form, "scope": "repository:team/app:push"})
    assert granted.json["scope"] == "repository:team/app:push"
    outside = await ask(nobody, "POST", "/token", data={**form, "scope": "repository:other:push"})
    assert outside.json["scope"] == ""
    # For every other name it is a password that is wrong; and it opens no session.
    for name in ("admin", "OIDC", "", "job"):
        assert (await ask(nobody, "GET", "/v2/", headers=basic(name, text))).status == 401
    assert (await ask(nobody, "GET", "/v2/", headers=bearer(text))).status == 401


async def test_a_token_stands_for_as_long_as_the_rule_says(
    registry: Registry, nobody: aiohttp.ClientSession, client: aiohttp.ClientSession, trusted: Issuer
) -> None:
    text = job_token(trusted)
    assert (await ask(nobody, "GET", "/v2/", headers=basic("oidc", text))).status == 200
    trusted.answers["/keys"] = aiohttp.web.Response(status=500)
    trusted.answers["/.well-known/openid-configuration"] = aiohttp.web.Response(status=500)
    asked = len(trusted.asked)
    # Nothing is asked again for it, whatever becomes of its issuer meanwhile.
    for _ in range(3):
        assert (await ask(nobody, "GET", "/v2/", headers=basic("oidc", text))).status == 200
    assert len(trusted.asked) == asked
    listed = (await api(client, "GET", "/tokens"))["items"]
    assert sum(token["name"] == "job by rule main" for token in listed) == 1


async def test_many_at_once_are_one_token(
    registry: Registry, nobody: aiohttp.ClientSession, client: aiohttp.ClientSession, trusted: Issuer
) -> None:
    text = job_token(trusted)
    answers = await asyncio.gather(
        *(ask(nobody, "GET", "/token", headers=basic("oidc", text)) for _ in range(12))
    )
    assert [answer.status for answer in answers] == [200] * 12
    listed = (await api(client, "GET", "/tokens"))["items"]
    assert sum(token["name"] == "job by rule main" for token in listed) == 1


async def test_a_job_that_asks_without_end_fills_no_table(
    registry: Registry, nobody: aiohttp.ClientSession, client: aiohttp.ClientSession, trusted: Issuer
) -> None:
    text = job_token(trusted)
    answers = await asyncio.gather(*(exchange(nobody, text) for _ in range(12)))
    assert [answer.status for answer in answers] == [200] * 12
    assert len({answer.json["access_token"] for answer in answers}) == 1
    other = (await exchange(nobody, job_token(trusted, jti="2"))).json["access_token"]
    assert other != answers[0].json["access_token"]
    listed = [
        token["id"] for token in (await api(client, "GET", "/tokens"))["items"] if "job" in token["name"]
    ]
    assert len(listed) == 2
    # And what was revoked is not to be had again for the asking.
    for token_id in listed:
        await api(client, "DELETE", f"/tokens/{token_id}", status=204)
    assert (await exchange(nobody, text)).status == 401
    assert (await ask(nobody, "GET", "/v2/", headers=bearer(other))).status == 401


@pytest.mark.parametrize("end", ["token", "rule", "change", "issuer", "url", "account"])
async def test_what_ends_a_job_ends_it_at_once(
    registry: Registry,
    nobody: aiohttp.ClientSession,
    client: aiohttp.ClientSession,
    trusted: Issuer,
    end: str,
) -> None:
    await make_user(client, "ci-user")
    await api(client, "PATCH", "/workload-rules/main", json={"account": "ci-user"})
    text = job_token(trusted)
    given = (await exchange(nobody, text)).json["access_token"]
    own = await registry_token(nobody, headers=basic("oidc", text))
    credentials = [basic("oidc", text), basic("x", given), bearer(given), bearer(own)]
    for credential in credentials:
        assert (await ask(nobody, "GET", "/v2/", headers=credential)).status == 200
    match end:
        case "token":
            for token in (await api(client, "GET", "/tokens"))["items"]:
                if token["account"] == "ci-user":
                    await api(client, "DELETE", f"/tokens/{token['id']}", status=204)
        case "rule":
            await api(client, "DELETE", "/workload-rules/main", status=204)
        case "change":
            narrower = {"conditions": [{"claim": "sub", "equals": "repo:team/other:ref:refs/heads/main"}]}
            await api(client, "PATCH", "/workload-rules/main", json=narrower)
        case "issuer":
            await api(client, "DELETE", "/issuers/ci", status=204)
        case "url":
            await api(client, "PATCH", "/issuers/ci", json={"url": "https://issuer.example"})
        case "account":
            await api(client, "PATCH", "/users/ci-user", json={"disabled": True})
    for credential in credentials:
        assert (await ask(nobody, "GET", "/v2/", headers=credential)).status == 401
    assert (await exchange(nobody, text)).status == 401


async def test_what_was_revoked_is_not_taken_with_its_signature_written_otherwise(
    nobody: aiohttp.ClientSession, client: aiohttp.ClientSession, trusted: Issuer
) -> None:
    """Of an ECDSA signature (r, s) everybody can make another that is as good: (r, n - s)."""
    trusted.rotate("ES256")
    text = job_token(trusted)
    signed, _, signature = text.rpartition(".")
    raw = base64url_decode(signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    mirrored = (order - int.from_bytes(raw[32:])).to_bytes(32)
    twin = f"{signed}.{base64url_encode(raw[:32] + mirrored).decode()}"
    given = (await exchange(nobody, text)).json["access_token"]
    assert (await exchange(nobody, twin)).json["access_token"] == given, "it is the same job's"
    for each in (text, twin):
        assert (await ask(nobody, "GET", "/v2/", headers=basic("oidc", each))).status == 200
    jobs = [each for each in (await api(client, "GET", "/tokens"))["items"] if each["name"].startswith("job")]
    assert len(jobs) == 2, "what it was exchanged for, and itself"
    for job in jobs:
        await api(client, "DELETE", f"/tokens/{job['id']}", status=204)
    for each in (text, twin):
        assert (await ask(nobody, "GET", "/v2/", headers=basic("oidc", each))).status == 401
        assert (await exchange(nobody, each)).status == 401


async def test_the_first_rule_by_name_that_holds_is_taken(
    nobody: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer)
    await make_rule(client, "20-all", conditions=[{"claim": "sub", "glob": "repo:team/**"}], seconds=60)
    await make_rule(client, "10-main", seconds=3600)
    assert (await exchange(nobody, job_token(issuer))).json["expires_in"] == 3600
    branch = job_token(issuer, sub="repo:team/app:ref:refs/heads/branch")
    assert (await exchange(nobody, branch)).json["expires_in"] == 60


async def test_a_rule_gives_no_more_than_its_account_has(
    registry: Registry, nobody: aiohttp.ClientSession, client: aiohttp.ClientSession, trusted: Issuer
) -> None:
    await make_user(client, "weak")
    await api(client, "PATCH", "/workload-rules/main", json={"account": "weak"})
    headers = basic("oidc", job_token(trusted))
    answer = await ask(nobody, "POST", "/v2/team/app/blobs/uploads/", headers=headers)
    assert answer.status == 403


async def test_a_rule_does_not_cover_what_took_a_name_that_was_given_up(
    nobody: aiohttp.ClientSession, client: aiohttp.ClientSession, issuer: Issuer
) -> None:
    await trust(client, issuer)
    await make_repository(client, "team/app")
    both = ["repository:team/app:pull", "repository:team/other:pull"]
    await make_rule(client, "1", scopes=both)
    text = job_token(issuer)
    headers = basic("oidc", text)
    assert (await exchange(nobody, text)).json["scope"] == " ".join(both)
    assert (await ask(nobody, "GET", "/v2/team/app/tags/list", headers=headers)).status == 200
    await api(client, "DELETE", "/repositories/team%2Fapp", status=204)
    await make_repository(client, "team/app")
    assert (await ask(nobody, "GET", "/v2/team/app/tags/list", headers=headers)).status == 403
    assert (await exchange(nobody, text)).json["scope"] == both[1]
    await api(client, "PATCH", "/workload-rules/1", json={"scopes": both[:1]})
    assert (await exchange(nobody, text)).status == 401
    await api(client, "DELETE", "/workload-rules/1", status=204)
    await make_rule(client, "1", scopes=both)
    assert (await exchange(nobody, text)).json["scope"] == " ".join(both)


async def test_jobs_that_are_not_let_in(nobody: aiohttp.ClientSession, trusted: Issuer) -> None:
    others: tuple[dict[str, Any], ...] = (
        {"sub": "repo:other/app:ref:refs/heads/main"},
        {"sub": "repo:team/app:ref:refs/heads/main:x"},
        {"sub": "repo:team/x/app:ref:refs/heads/main"},
        {"aud": "other.example"},
        {"aud": [AUDIENCE, "other.example"]},
        {"aud": []},
        {"aud": "registry\0example"},
        {"aud": ["\0"]},
        {"aud": None},
        {"exp": 1},
        {"iat": 4102444800},
        {"sub": [SUBJECT]},
        {"iss": "https://issuer.example"},
        {"iss": "https://issuer.example\0"},
        {"header": {"kid": "unknown"}},
    )
    for given in others:
        text = job_token(trusted, **given)
        answer = await exchange(nobody, text)
        assert answer.status == 401, given
        assert trusted.url not in answer.body.decode()
        again = await ask(nobody, "GET", "/token", headers=basic("oidc", text))
        assert again.status == 401, given
    assert (await exchange(nobody, job_token(trusted))).status == 200


async def test_nobody_is_let_in_whose_signature_is_another_s(
    nobody: aiohttp.ClientSession, trusted: Issuer
) -> None:
    async with running_issuer() as other:
        text = other.token(sub=SUBJECT, aud=AUDIENCE, iss=trusted.url)
        assert (await exchange(nobody, text)).status == 401
        assert other.asked == []
    good = job_token(trusted)
    assert (await exchange(nobody, good[:-4] + "AAAA")).status == 401
    # The hash under which a token stands is that of all of it.
    assert (await ask(nobody, "GET", "/v2/", headers=basic("oidc", good))).status == 200
    head, body, _ = good.split(".")
    other_end = f"{head}.{body}.AAAA"
    assert (await ask(nobody, "GET", "/v2/", headers=basic("oidc", other_end))).status == 401


async def test_exchanges_that_are_none(nobody: aiohttp.ClientSession, trusted: Issuer) -> None:
    wrong: tuple[tuple[dict[str, Any], int], ...] = (
        ({"subject_token": None}, 400),
        ({"subject_token_type": None}, 400),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, 400),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, 400),
        ({"scope": "repository:team/app:push"}, 400),
        ({"actor_token": "x"}, 400),
        ({"subject_token": ""}, 401),
        ({"subject_token": "ey.ey.ey"}, 401),
        ({"subject_token": "\0"}, 401),
        ({"subject_token": "é" * 1000}, 401),
        ({"service": "other"}, 400),
    )
    for form, status in wrong:
        answer = await exchange(nobody, job_token(trusted), **form)
        assert answer.status == status, (form, answer.body)
    assert (await exchange(nobody, job_token(trusted))).status == 200


async def test_an_issuer_that_cannot_be_asked_is_no_reason_to_refuse_for_good(
    nobody: aiohttp.ClientSession, trusted: Issuer
) -> None:
    trusted.answers["/.well-known/openid-configuration"] = aiohttp.web.Response(status=500)
    answer = await exchange(nobody, job_token(trusted))
    assert answer.status == 503
    assert trusted.url not in answer.body.decode()


async def test_a_private_issuer_needs_the_operator(tmp_path: Path, database_url: str, issuer: Issuer) -> None:
    async with (
        running_registry(tmp_path / "closed", database_url) as closed,
        closed.client() as admin,
        closed.client(anonymous=True) as nobody,
    ):
        await trust(admin, issuer)
        await make_rule(admin)
        assert (await exchange(nobody, job_token(issuer))).status == 503
        checked = await ask(admin, "POST", "/api/v1/issuers/ci/check")
        assert checked.status == 503
        assert "may not be" in checked.json["detail"]
    assert issuer.asked == []


async def test_explain_tells_what_is_missing(client: aiohttp.ClientSession, trusted: Issuer) -> None:
    async def told(text: str) -> Any:
        return await api(client, "POST", "/workload-explanations", json={"token": text})

    assert (await told(job_token(trusted)))["rule"] == "main"
    other = await told(job_token(trusted, sub="repo:other:ref:x", aud="x"))
    assert other["rule"] is None
    assert other["looked_at"] == [
        {"name": "main", "holds": False, "missing": [f"aud={AUDIENCE} alone", f"sub~{MAIN['glob']}"]}
    ]
    assert (await told(job_token(trusted, exp=1)))["reason"] == "it has expired"
    assert "trusted" in (await told(job_token(trusted, iss="https://x.example")))["reason"]


async def test_what_a_job_was_is_in_the_trail(
    registry: Registry, client: aiohttp.ClientSession, trusted: Issuer
) -> None:
    text = job_token(trusted, repository="team/app", run_id=77, sha="0123abcd")
    job = {
        "issuer": "ci",
        "rule": "main",
        "subject": SUBJECT,
        "run": "https://ci.example/team/app/runs/77",
        "commit": "0123abcd",
    }
    async with registry.client(text, user="oidc") as session:
        await push_small(session, "team/app", "1")
    history = await api(client, "GET", "/repositories/team%2Fapp/tags/1/history")
    assert history["items"][0]["workload"] == job
    assert registry.services is not None
    from sqlalchemy import select

    from registry.db.content import manifests
    from registry.db.events import events

    async with registry.services.database.read() as connection:
        kept = (await connection.execute(select(manifests.c.workload))).scalars().all()
        said = (await connection.execute(select(events.c.data).where(events.c.kind == "tag.moved"))).scalars()
        assert [json.loads(row) for row in kept] == [job]
        assert [json.loads(row)["workload"] for row in said] == [job]


async def test_what_a_job_was_is_kept_with_its_trials(
    registry: Registry, client: aiohttp.ClientSession, trusted: Issuer
) -> None:
    await make_repository(client, "team/app", trial_on_push=True)
    scopes = ["repository:team/*:pull,push,trial"]
    await api(client, "PATCH", "/workload-rules/main", json={"scopes": scopes})
    async with registry.client(job_token(trusted, sha="0123abcd"), user="oidc") as job:
        await push_image(job, "team/app", "1", tiny_image())
        asked = await api(job, "POST", "/trials", status=201, json={"image": "team/app:1"})
    told = await api(client, "GET", "/trials?image=team/app:1")
    assert [trial["cause"] for trial in told] == ["request", "push"]
    assert [trial["workload"]["commit"] for trial in [asked, *told]] == ["0123abcd"] * 3
    assert told[0]["workload"]["subject"] == SUBJECT


async def test_a_job_makes_no_token_that_would_outlive_its_rule(
    nobody: aiohttp.ClientSession, client: aiohttp.ClientSession, trusted: Issuer
) -> None:
    job = bearer((await exchange(nobody, job_token(trusted))).json["access_token"])
    body = {"name": "kept", "scopes": ["repository:team/*:pull"], "expires_seconds": 600}
    assert (await ask(nobody, "POST", "/api/v1/tokens", json=body, headers=job)).status == 403
    listed = (await api(client, "GET", "/tokens"))["items"]
    (own,) = [token["id"] for token in listed if token["name"] == "job by rule main"]
    assert (await ask(nobody, "POST", f"/api/v1/tokens/{own}/rotate", json={}, headers=job)).status == 403
