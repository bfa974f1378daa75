"""What a stored run spec asks of a worker."""

from __future__ import annotations

import pytest

from registry.contract.isolation import SECRETS, SERVICES, STUBS
from registry.contract.specfile import parse_run_spec
from registry.trials.specs import worker_needs

REFERENCE = "{A: b, DB: {secret: DB}}"
STUB = "[{name: db, port: 80, http: {}}]"
SERVICE = "name: db, image: base/db, ready: {tcp: 7}"


@pytest.mark.parametrize(
    ("said", "needs"),
    [
        ("env: {A: b}\ncases: [{name: one}]", []),
        ("require: [seccomp]", ["seccomp"]),
        (f"env: {REFERENCE}", [SECRETS]),
        (f"cases: [{{name: one}}, {{name: two, env: {REFERENCE}}}]", [SECRETS]),
        (f"stub: {STUB}", [STUBS]),
        (f"cases: [{{name: one, stub: []}}, {{name: two, stub: {STUB}}}]", [STUBS]),
        (f"services: [{{{SERVICE}}}]", [SERVICES]),
        (f"services: [{{{SERVICE}, env: {REFERENCE}}}]", [SECRETS, SERVICES]),
        (f"require: [user namespace]\nenv: {REFERENCE}\nstub: {STUB}", [SECRETS, STUBS, "user namespace"]),
    ],
)
def test_a_worker_must_know_what_is_in_a_spec(said: str, needs: list[str]) -> None:
    assert worker_needs(parse_run_spec(f"version: 1\n{said}\n").canonical()) == needs
    assert worker_needs(None) == []
