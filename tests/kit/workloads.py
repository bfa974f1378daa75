"""Words for tests about jobs: an issuer that is trusted, a robot, a rule, and what a job sends."""

from __future__ import annotations

from typing import Any

import aiohttp

from tests.kit.access import Answer, api, ask
from tests.kit.issuer import Issuer

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
AUDIENCE = "registry.example"
MAIN = {"claim": "sub", "glob": "repo:team/*:ref:refs/heads/main"}
SUBJECT = "repo:team/app:ref:refs/heads/main"


async def trust(client: aiohttp.ClientSession, issuer: Issuer, name: str = "ci", **given: Any) -> Any:
    """Trust the issuer."""
    body = {"name": name, "url": issuer.url, **given}
    return await api(client, "POST", "/issuers", status=201, json=body)


async def make_rule(client: aiohttp.ClientSession, name: str = "main", **given: Any) -> Any:
    """Let jobs of ``ci`` for the main branch in, as administrator within a scope, if nothing else is said."""
    body = {
        "name": name,
        "issuer": "ci",
        "audience": AUDIENCE,
        "conditions": [MAIN],
        "account": "admin",
        "scopes": ["repository:team/*:pull,push"],
        **given,
    }
    return await api(client, "POST", "/workload-rules", status=201, json=body)


def job_token(issuer: Issuer, **given: Any) -> str:
    """What the issuer gives a job of the main branch."""
    header, key = given.pop("header", None), given.pop("key", None)
    return issuer.token(key, header=header, **{"aud": AUDIENCE, "sub": SUBJECT, **given})


async def exchange(nobody: aiohttp.ClientSession, text: str, **given: Any) -> Answer:
    """Send a job's token for one of the registry's."""
    form = {"grant_type": EXCHANGE, "subject_token": text, "subject_token_type": JWT, **given}
    sent = {name: value for name, value in form.items() if value is not None}
    return await ask(nobody, "POST", "/token", data=sent)
