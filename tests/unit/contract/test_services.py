"""Services in run specs: what may stand together, and what each comes to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from registry.contract.limits import MIB, Limits
from registry.contract.plan import make_plans
from registry.contract.runspec import IMAGE_LABEL
from registry.contract.serviceplan import ServicePlan, make_service_plans, require_bounded
from registry.contract.services import parted
from registry.contract.specfile import parse_run_spec
from registry.errors import RequestInvalidError
from registry.oci.imageconfig import ImageConfig
from registry.oci.platform import Platform
from registry.trials.specs import worker_needs

DB = "name: db, image: base/db"
READY = "ready: {tcp: 5432}"
CONFIG = ImageConfig(Platform("linux", "amd64"), (), cmd=("/serve",), entrypoint=("/entry",), user="7")
CEILING = Limits(memory_bytes=1024 * MIB, cpus=4, pids=1000, written_bytes=2**32, wall_seconds=900)


def service_plans(text: str, config: ImageConfig = CONFIG, **secrets: str) -> Sequence[ServicePlan]:
    spec = parse_run_spec(f"version: 1\n{text}")
    configs = {one.name: config for one in spec.services or ()}
    found = make_service_plans(spec, configs, limits=Limits(), ceiling=CEILING, secrets=secrets)
    plans = make_plans(
        CONFIG, spec, limits=Limits(), ceiling=CEILING, image_spec_allowed=True, secrets=secrets
    )
    require_bounded(plans, found, CEILING)
    return found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("services: []", "services: "),
        (f"services: [{{{DB}}}]", "services.0.ready: Field required"),
        (f"services: [{{{DB}, ready: {{}}}}]", "give one of 'tcp', 'http', 'exec' and 'log'"),
        (f"services: [{{{DB}, ready: {{tcp: 1, log: x}}}}]", "give one of 'tcp', 'http', 'exec' and 'log'"),
        (f"services: [{{{DB}, ready: {{tcp: 1, within_seconds: 601}}}}]", "ready.within_seconds"),
        (
            f"services: [{{{DB}, ready: {{http: {{port: 1, within_seconds: 3}}}}}}]",
            "give 'within_seconds' beside 'http'",
        ),
        (f"services: [{{name: DB, image: base/db, {READY}}}]", "'DB' is not a host name"),
        (f"services: [{{name: trial, image: base/db, {READY}}}]", "'trial' is the run itself"),
        (f"services: [{{name: db, image: 'x.example:5000/db:1', {READY}}}]", "without a host"),
        (f"services: [{{name: db, image: Base, {READY}}}]", "breaks the grammar of repository names"),
        (f"services: [{{{DB}, {READY}, limits: {{wall_seconds: 3}}}}]", "a service lasts as long as the run"),
        (f"services: [{{{DB}, {READY}, capabilities: [CHOWN]}}]", "there is no such key"),
        (f"services: [{{{DB}, {READY}}}, {{{DB}, ready: {{tcp: 1}}}}]", "two services with the name 'db'"),
        (
            f"services: [{{{DB}, {READY}}}, {{name: b, image: b, {READY}}}]",
            "two services with port 5432",
        ),
        (
            f"services: [{', '.join(f'{{name: s{n}, image: b, ready: {{tcp: {n}}}}}' for n in range(1, 6))}]",
            "4",
        ),
        (
            f"services: [{{{DB}, {READY}}}]\nexpect: {{tcp: [{{port: 5432}}]}}",
            "it is the image's, or a stub's",
        ),
        (
            f"services: [{{{DB}, {READY}}}]\ncases: [{{name: c, expect: {{http: [{{port: 5432}}]}}}}]",
            "case c: the service db cannot have port 5432",
        ),
        (
            f"services: [{{{DB}, {READY}}}]\nstub: [{{name: x, port: 5432, tcp: {{}}}}]",
            "cannot have port 5432",
        ),
        (
            f"services: [{{{DB}, {READY}}}]\nstub: [{{name: db, port: 1, tcp: {{}}}}]",
            "db is a service, and the name of something else",
        ),
        (
            f"services: [{{{DB}, {READY}}}]\nnetwork: {{egress: [{{host: db, port: 1}}]}}",
            "db is a service, and the name of something else",
        ),
        (f"services: [{{{DB}, {READY}, limits: {{memory_bytes: 600000000}}}}]", "1136870912 of memory_bytes"),
        (
            f"limits: {{wall_seconds: 900}}\nservices: [{{{DB}, {READY}}}]",
            "may take 960 s with what their services may take to be ready",
        ),
        (
            f"services: [{{{DB}, {READY}, env: {{A: {{secret: S}}}}}}]",
            "the service db: the run spec names the secret 'S', and there is none here",
        ),
    ],
)
def test_what_cannot_be_is_named(text: str, why: str) -> None:
    with pytest.raises(RequestInvalidError) as raised:
        service_plans(text)
    assert why in raised.value.message


def test_an_image_without_a_command_is_named() -> None:
    nothing = ImageConfig(Platform("linux", "amd64"), ())
    with pytest.raises(RequestInvalidError, match="the service db: the image has no entrypoint"):
        service_plans(f"services: [{{{DB}, {READY}}}]", nothing)


def test_it_is_run_under_the_profile_of_the_spec_and_as_its_image_says() -> None:
    text = (
        "profile: restricted\nrequire: [seccomp, egress]\n"
        "network: {egress: [{host: a.example, port: 1}]}\ncapabilities: null\n"
        "limits: {memory_bytes: 50000000}\nservices:\n"
        f"  - {{{DB}, {READY}, args: [-x], env: {{A: {{secret: S}}}}, "
        "limits: {pids: 9, memory_bytes: 5000000}}\n"
        "  - {name: web, image: base/web, user: '3', ready: {exec: [/up], within_seconds: 5}}"
    )
    db, web = service_plans(text, S="a long value")
    assert (db.plan.command, db.plan.user, db.plan.limits.pids) == (("/entry", "-x"), "7", 9)
    assert "A=a long value" in db.plan.env
    assert (db.ready_seconds, [(one.port, one.within_seconds) for one in db.plan.tcp]) == (60, [(5432, 60)])
    assert (web.plan.user, web.ready_seconds, web.plan.exec[0].command) == ("3", 5, ("/up",))
    for one in (db, web):
        assert (one.plan.profile, one.plan.read_only, one.plan.capabilities) == ("restricted", True, ())
        # It reaches nothing outside, whatever the run may.
        assert (one.plan.network, one.plan.require) == (None, ("seccomp",))


def test_a_spec_with_them_is_for_workers_that_know_them_and_no_label_has_any() -> None:
    spec = parse_run_spec(f"version: 1\nservices: [{{{DB}, {READY}}}]")
    assert "run-spec services" in worker_needs(spec.canonical())
    assert parse_run_spec(spec.canonical()) == spec
    labelled = ImageConfig(
        Platform("linux", "amd64"),
        (),
        cmd=("/a",),
        labels={IMAGE_LABEL: f"version: 1\nservices: [{{{DB}, {READY}}}]"},
    )
    with pytest.raises(RequestInvalidError, match="services: there is no such key"):
        make_plans(labelled, None, limits=Limits(), ceiling=CEILING, image_spec_allowed=True)


def test_its_image_is_a_tag_or_a_digest() -> None:
    digest = f"sha256:{'a' * 64}"
    for image, wanted in (
        ("base/db", ("base/db", "latest")),
        ("base/db:16", ("base/db", "16")),
        (f"base/db@{digest}", ("base/db", digest)),
        (f"base/db:16@{digest}", ("base/db", digest)),
    ):
        assert parted(image) == wanted


def test_a_case_may_do_without_them() -> None:
    spec = parse_run_spec(
        "version: 1\nlimits: {wall_seconds: 250}\n"
        f"services: [{{{DB}, ready: {{tcp: 1, within_seconds: 500}}}}]\n"
        "checks: [fails-cleanly-without-db]\ncases: [{name: with}, {name: alone, services: []}]"
    )
    assert parse_run_spec(spec.canonical()) == spec
    plans = make_plans(CONFIG, spec, limits=Limits(), ceiling=CEILING, image_spec_allowed=False)
    assert {plan.asked.case: plan.services for plan in plans} == {
        "fails-cleanly-without-db": False,
        "with": True,
        "alone": False,
    }
    found = make_service_plans(spec, {"db": CONFIG}, limits=Limits(), ceiling=CEILING)
    # Three runs of 250 s, and 500 s for one of them.
    with pytest.raises(RequestInvalidError, match="may take 1250 s"):
        require_bounded(plans, found, CEILING)
    with pytest.raises(RequestInvalidError, match=r"cases.0.services"):
        parse_run_spec(f"version: 1\ncases: [{{name: c, services: [{{{DB}, {READY}}}]}}]")
