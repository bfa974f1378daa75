"""What is said of a scan: SBOMs without vulnerabilities, and those as cosign's form has them."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from registry.advisories.report import Report
from registry.advisories.reported import with_reported
from registry.db.content import attestations
from registry.oci.digest import parse_digest
from registry.trials.scanstatements import scan_predicate
from registry.trials.sigstore import make_statement, parse_statement
from registry.trials.statements import OF_SCANS, PREDICATES, ScanKind, Signer
from tests.kit.scans import make_package
from tests.unit.formats.test_formats import (
    AT,
    CYCLONEDX,
    DIGEST,
    HOSTILE,
    MATCH,
    SPDX,
    report_of,
    scan_of,
)

SIGNER = Signer("1.2", "https://registry.example")
IMAGE = f"registry.example/team/app@{DIGEST}"


def said_of(kind: ScanKind, known: Report) -> Any:
    """The predicate, as whoever verifies the statement reads it."""
    predicate = scan_predicate(kind, known, image=IMAGE, signer=SIGNER, made_at="2026-11-30T10:00:00Z")
    raw = make_statement("registry.example/team/app", parse_digest(DIGEST), PREDICATES[kind], predicate)
    statement = parse_statement(raw)
    assert statement.predicate_type == PREDICATES[kind]
    return statement.predicate


@pytest.mark.parametrize("said", ["", HOSTILE])
def test_an_sbom_is_of_its_schema_and_knows_no_vulnerability(said: str) -> None:
    known = report_of(said)
    cyclonedx, spdx = said_of("cyclonedx", known), said_of("spdx", known)
    assert CYCLONEDX.validate_str(json.dumps(cyclonedx)) is None
    assert list(SPDX.iter_errors(spdx)) == []
    for document in (cyclonedx, spdx):
        assert MATCH.id not in json.dumps(document)
        assert "libssl3" in json.dumps(document)
    # It is the same whatever advisories say later.
    assert said_of("cyclonedx", Report(known.scan, known.scanned_at)) == cyclonedx


@pytest.mark.parametrize("said", ["", HOSTILE])
def test_what_advisories_say_is_in_the_form_of_cosign(said: str) -> None:
    predicate = said_of("matches", report_of(said))
    assert predicate["invocation"]["builder.id"] == "https://registry.example"
    assert predicate["scanner"]["version"] == "1.2"
    assert predicate["scanner"]["db"] == {"uri": "", "version": "g1", "lastUpdate": "2026-11-29T12:30:15Z"}
    assert predicate["metadata"] == {
        "scanStartedOn": "2026-11-29T12:30:15Z",
        "scanFinishedOn": "2026-11-30T10:00:00Z",
    }
    result = predicate["scanner"]["result"]
    assert (result["complete"], result["notLookedUp"], result["incomplete"]) == (False, {"npm": 3, "": 1}, 2)
    worst = result["vulnerabilities"][0]
    assert (worst["id"], worst["package"], worst["fixedVersion"]) == (
        "CVE-2025-9230",
        "libssl3",
        "3.0.17-1~deb12u3",
    )
    assert worst["purl"] == "pkg:deb/debian/libssl3@3.0.17-1~deb12u2?arch=amd64&distro=debian-12"
    assert len(result["vulnerabilities"]) == 4
    # It changes each day, and nobody is told of it. What else was found may be secret.
    assert "epss" not in worst
    assert "github-token" not in json.dumps(predicate)


def test_what_another_scanner_says_has_its_name() -> None:
    told = [{"scanner": "trivy", "id": "CVE-2099-1", "package": 0, "severity": "high"}]
    scan = scan_of(make_package(), reported=told)
    predicate = said_of("matches", Report(scan, AT, with_reported(scan, (MATCH,))))
    vulnerabilities = predicate["scanner"]["result"]["vulnerabilities"]
    assert [one.get("reportedBy") for one in vulnerabilities] == [None, ["trivy"]]


def test_where_nobody_looked_nothing_is_said_to_be_complete() -> None:
    predicate = said_of("matches", Report(scan_of(), AT))
    assert predicate["scanner"]["db"] == {"uri": "", "version": ""}
    assert predicate["scanner"]["result"]["complete"] is False


def test_the_database_takes_each_kind() -> None:
    (check,) = [one for one in attestations.constraints if str(one.name).endswith("ck_attestations_kind")]
    assert all(f"'{kind}'" in str(check.sqltext) for kind in ("result", "summary", *OF_SCANS))  # type: ignore[attr-defined]
    assert set(OF_SCANS) == set(get_args(ScanKind))
