"""What other scanners say, in each format, and what of it is taken: nothing is believed to fit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from registry.advisories.matching import Match
from registry.advisories.report import report
from registry.advisories.reported import with_reported
from registry.contract.limits import Limits
from registry.contract.otherscanner import SCANNER_LIMITS, parse_declaration
from registry.contract.scan import MAX_FOUND, MAX_PACKAGES, Incomplete, OtherScanner, Package, Scan
from registry.errors import RequestInvalidError
from registry.formats.forms import FORMS
from sandbox.images.shown import readable_mode
from sandbox.scanners.document import DOCUMENT_BYTES
from sandbox.scanners.others.merging import with_failed, with_said
from sandbox.scanners.others.reading import MAX_VALUES, read_said
from sandbox.scanners.others.said import ReportInvalidError, Said
from sandbox.scanners.others.vulnerabilities import of_purl

DIGEST = "sha256:" + "1" * 64
LAYERS = [{"diff_id": "sha256:" + letter * 64} for letter in "ab"]
LIBSSL = {"kind": "apk", "ecosystem": "Alpine:v3.10", "name": "libssl1.1", "version": "1.1.1c-r0"}
SCAN = Scan.model_validate(
    {
        "lease": "l",
        "scanner": "ours",
        "digest": DIGEST,
        "platform": "linux/amd64",
        "system": {"id": "alpine", "version": "3.10.2"},
        "layers": LAYERS,
        "packages": [{**LIBSSL, "path": "lib/apk/db/installed", "layer": 0}],
    },
    strict=False,
)
NAME, IMAGE = "tool", "tools/tool@sha256:" + "2" * 64
TRIVY = {
    "SchemaVersion": 2,
    "ArtifactName": "/target",
    "Trivy": {"Version": "0.74.0"},
    "Results": [
        {
            "Target": "/target (alpine 3.10.2)",
            "Class": "os-pkgs",
            "Type": "alpine",
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2019-1549",
                    "PkgName": "libssl1.1",
                    "InstalledVersion": "1.1.1c-r0",
                    "FixedVersion": "1.1.1d-r0",
                    "Layer": {"DiffID": LAYERS[1]["diff_id"]},
                    "Title": "openssl: information disclosure in fork()",
                    "Severity": "MEDIUM",
                    "CVSS": {"nvd": {"V2Score": 9, "V3Score": 5.3}, "redhat": {"V3Score": 4.8}},
                },
                {"VulnerabilityID": "no id", "PkgName": "x"},
            ],
        },
        {
            "Target": "Ruby",
            "Class": "lang-pkgs",
            "Type": "gemspec",
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2022-1",
                    "VendorIDs": ["GHSA-1"],
                    "PkgName": "rack",
                    "PkgPath": "usr/lib/gems/rack.gemspec",
                    "InstalledVersion": "2.0",
                    "Severity": "CRITICAL",
                }
            ],
        },
        {
            "Target": "/target/deploy.sh",
            "Class": "secret",
            "Secrets": [
                {
                    "RuleID": "aws-access-key-id",
                    "Severity": "CRITICAL",
                    "Title": "AWS Access Key ID",
                    "StartLine": 3,
                    "Match": "export AWS_ACCESS_KEY_ID=AKIA",
                }
            ],
        },
        {
            "Target": "Dockerfile",
            "Class": "config",
            "Misconfigurations": [
                {"ID": "DS002", "Title": "root", "Severity": "HIGH", "Resolution": "USER", "Status": "FAIL"},
                {"ID": "DS001", "Title": "latest", "Severity": "HIGH", "Status": "PASS"},
            ],
            "Licenses": [{"Name": "AGPL-3.0", "Severity": "HIGH", "PkgName": "x"}],
        },
    ],
}
SARIF = {
    "version": "2.1.0",
    "runs": [
        {
            "tool": {
                "driver": {
                    "name": "Trivy",
                    "version": "0.74.0",
                    "rules": [
                        {
                            "id": "CVE-2019-1549",
                            "shortDescription": {"text": "CVE-2019-1549"},
                            "fullDescription": {"text": "information disclosure"},
                            "properties": {"security-severity": "5.3", "tags": ["vulnerability", "MEDIUM"]},
                        },
                        {
                            "id": "key",
                            "shortDescription": {"text": "a key"},
                            "defaultConfiguration": {"level": "error"},
                            "properties": {"tags": ["secret"]},
                        },
                    ],
                }
            },
            "results": [
                {
                    "ruleId": "CVE-2019-1549",
                    "message": {
                        "text": "Package: libssl1.1\nInstalled Version: 1.1.1c-r0\nFixed Version: 1.1.1d-r0"
                    },
                    "locations": [{"physicalLocation": {"artifactLocation": {"uri": "target"}}}],
                },
                {
                    "ruleIndex": 1,
                    "message": {"text": "the key is s3cr3t"},
                    "locations": [
                        {
                            "physicalLocation": {
                                "artifactLocation": {"uri": "file:///target/a%20b"},
                                "region": {"startLine": 4},
                            }
                        }
                    ],
                },
                {"ruleId": "kept back", "message": {"text": "x"}, "suppressions": [{"kind": "external"}]},
                {"ruleId": "good", "message": {"text": "x"}, "kind": "pass"},
            ],
            "invocations": [{"executionSuccessful": False}],
        }
    ],
}
CYCLONEDX = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "metadata": {"tools": {"components": [{"name": "grype", "version": "0.121"}]}},
    "components": [
        {"type": "operating-system", "name": "alpine", "version": "3.10.2"},
        {
            "type": "library",
            "bom-ref": "a",
            "name": "libssl1.1",
            "version": "1.1.1c-r0",
            "purl": "pkg:apk/alpine/libssl1.1@1.1.1c-r0?arch=x86_64",
            "components": [
                {
                    "type": "library",
                    "bom-ref": "b",
                    "name": "core",
                    "version": "7",
                    "purl": "pkg:npm/%40angular/core@7",
                    "licenses": [{"license": {"id": "MIT"}}],
                }
            ],
        },
    ],
    "vulnerabilities": [
        {
            "id": "CVE-2019-1549",
            "ratings": [{"severity": "low"}, {"severity": "medium", "score": 5.3, "method": "CVSSv31"}],
            "affects": [{"ref": "a"}],
            "description": "information disclosure",
        },
        {"id": "CVE-2020-1", "affects": [{"ref": "a"}], "analysis": {"state": "not_affected"}},
        {"id": "CVE-2020-2", "affects": [{"ref": "nowhere"}]},
    ],
}


def read(document: Any, form: Any) -> Scan:
    said = read_said(json.dumps(document).encode(), form, SCAN)
    return with_said(SCAN, said, NAME, IMAGE)


def reported(scan: Scan) -> list[tuple[str, str, str, float | None]]:
    return [(one.id, scan.packages[one.package].name, one.severity, one.score) for one in scan.reported]


def test_trivy() -> None:
    scan = read(TRIVY, "trivy")
    assert reported(scan) == [
        ("CVE-2019-1549", "libssl1.1", "medium", 5.3),
        ("CVE-2022-1", "rack", "critical", None),
    ]
    # What is there already is not there twice.
    assert [(one.kind, one.name, one.scanner) for one in scan.packages] == [
        ("apk", "libssl1.1", None),
        ("other", "rack", NAME),
    ]
    assert [(one.kind, one.rule, one.severity, one.where, one.line, one.evidence) for one in scan.found] == [
        ("secret", "aws-access-key-id", "critical", "deploy.sh", 3, ""),
        ("misconfiguration", "DS002", "high", "Dockerfile", None, ""),
        ("licence", "AGPL-3.0", "high", "x", None, ""),
    ]
    assert [one.reason for one in scan.incomplete] == ["a vulnerability has no id that could be one: 'no id'"]
    assert scan.others == (OtherScanner(name=NAME, image=IMAGE, said="trivy 0.74.0", state="incomplete"),)
    with pytest.raises(ReportInvalidError, match="no report of trivy"):
        read({"Results": []}, "trivy")


def test_sarif() -> None:
    scan = read(SARIF, "sarif")
    assert reported(scan) == [("CVE-2019-1549", "libssl1.1", "medium", 5.3)]
    assert len(scan.packages) == 1
    assert (scan.reported[0].fixed_version, scan.reported[0].summary) == (
        "1.1.1d-r0",
        "information disclosure",
    )
    assert [(one.kind, one.rule, one.severity, one.title, one.where, one.line) for one in scan.found] == [
        ("secret", "key", "high", "a key", "a b", 4)
    ]
    assert [one.reason for one in scan.incomplete] == ["it says that it did not come to its end"]
    with pytest.raises(ReportInvalidError, match=r"SARIF 2\.1\.0"):
        read({"version": "2.0.0"}, "sarif")


def test_cyclonedx() -> None:
    scan = read(CYCLONEDX, "cyclonedx")
    assert reported(scan) == [("CVE-2019-1549", "libssl1.1", "medium", 5.3)]
    assert [(one.kind, one.ecosystem, one.name, one.version, one.licences) for one in scan.packages[1:]] == [
        ("npm", "npm", "@angular/core", "7", ("MIT",))
    ]
    assert [one.reason for one in scan.incomplete] == [
        "CVE-2020-2 affects something that is none of its components"
    ]
    assert scan.others[0].said == "grype 0.121"
    with pytest.raises(ReportInvalidError, match="CycloneDX"):
        read({}, "cyclonedx")


def test_our_own_documents_are_read_as_those_of_another_scanner() -> None:
    document = FORMS["cyclonedx"].write(report(SCAN, None, scanned_at=datetime(2026, 1, 1, tzinfo=UTC)), "x")
    said = read_said(document, "cyclonedx", SCAN)
    scan = with_said(SCAN, said, NAME, IMAGE)
    assert scan.packages == SCAN.packages


@pytest.mark.parametrize("form", ["trivy", "sarif", "cyclonedx"])
def test_what_has_other_types_is_not_there(form: Any) -> None:
    documents = {"trivy": TRIVY, "sarif": SARIF, "cyclonedx": CYCLONEDX}
    said = documents[form]
    heads = {"SchemaVersion", "version", "bomFormat", "runs"}

    def twisted(value: Any, depth: int) -> Any:
        """The same with something else in the place of each value at one depth."""
        if depth == 0:
            return {"a": [1]} if isinstance(value, str | int | list) else ["b", None]
        if isinstance(value, dict):
            return {name: one if name in heads and depth > 1 and not isinstance(one, list)
                    else twisted(one, depth - 1) for name, one in value.items()}  # fmt: skip
        return [twisted(one, depth - 1) for one in value] if isinstance(value, list) else value

    for depth in range(1, 12):
        document = twisted(said, depth)
        document.update({name: said[name] for name in heads & said.keys() if name != "runs"})
        if form == "sarif" and not isinstance(document["runs"], list):
            document["runs"] = [document["runs"]]
        scan = read(document, form)
        assert Scan.model_validate_json(scan.model_dump_json()) == scan


def test_a_report_is_bounded_before_it_is_read() -> None:
    for raw, why in (
        (b"[" * 100_000, "nested deeper"),
        (b'{"a": [' + b"0," * (MAX_VALUES + 1) + b"0]}", f"more than {MAX_VALUES} values"),
        (b" " * (32 * 1024 * 1024 + 1), "more than 33554432 bytes"),
        (b"[]", "must be a JSON object"),
        (b"\xff", "not UTF-8"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": "\\ud800"}', "lone surrogate"),
    ):
        with pytest.raises(ReportInvalidError, match=why):
            read_said(raw, "seatrial", SCAN)


def found(count: int, size: int = 0) -> list[dict[str, Any]]:
    usual = {"kind": "malware", "rule": "r", "severity": "low", "title": "x" * size}
    return [{**usual, "where": f"f{number}"} for number in range(count)]


def test_what_is_there_stays_whatever_a_scanner_adds() -> None:
    ours = SCAN.model_copy(update={"incomplete": (Incomplete(scanner="rpm", reason="bdb"),)})
    many = read_said(json.dumps({"scanner": "s", "digest": DIGEST, "found": found(MAX_FOUND)}).encode(),
                     "seatrial", SCAN)  # fmt: skip
    once = with_said(ours, many, NAME, IMAGE)
    twice = with_said(once, many, "second", IMAGE)
    assert (len(once.found), once.truncated, once.others[0].state) == (MAX_FOUND, False, "complete")
    # What the first found fills all there is, and the second says so.
    assert (len(twice.found), twice.truncated) == (MAX_FOUND, True)
    assert [one.state for one in twice.others] == ["complete", "incomplete"]
    assert {one.scanner for one in twice.found} == {NAME}
    assert (twice.packages, twice.incomplete, twice.is_complete()) == (ours.packages, ours.incomplete, False)
    failed = with_failed(ours, NAME, IMAGE, "w" * 1000)
    assert [(one.scanner, len(one.reason)) for one in failed.incomplete] == [(NAME, 300), ("rpm", 3)]


def test_told_twice_the_worse_counts() -> None:
    one = {**LIBSSL, "path": "usr/lib/a", "layer": 0}
    packages = [one, {**one, "path": "usr/lib/b"}]
    for order in ((0, 1), (1, 0)):
        said = [{"severity": "low", "score": 9.1}, {"severity": "critical"}]
        told = [{"id": "CVE-2020-1", "package": number, **said[number]} for number in order]
        document = {"scanner": "s", "digest": DIGEST, "packages": packages, "reported": told}
        assert reported(read(document, "seatrial")) == [("CVE-2020-1", "libssl1.1", "critical", 9.1)]


def test_a_document_stays_below_its_size() -> None:
    package = Package(kind="other", ecosystem="", name="n", version="1", path="p" * 4000, layer=0)
    packages = [package.model_copy(update={"name": f"n{number}"}) for number in range(10_000)]
    assert len(packages) < MAX_PACKAGES
    scan = with_said(SCAN, Said("s", packages), NAME, IMAGE)
    assert scan.truncated
    assert len(scan.model_dump_json()) <= DOCUMENT_BYTES + 1000


def test_what_it_says_of_itself_and_of_others_does_not_count() -> None:
    told = {
        "scanner": "s",
        "digest": DIGEST,
        "lease": "another",
        "platform": "plan9/mips",
        "layers": [{"diff_id": "sha256:" + "f" * 64}],
        "system": {"id": "debian"},
        "others": [{"name": "other", "image": "x", "state": "complete"}],
        "found": [{**found(1)[0], "scanner": "other", "real_severity": "info", "layer": 1}],
        "packages": [{**LIBSSL, "name": "mine", "path": "x", "layer": 0, "owned_by": "y", "scanner": "z"}],
        "reported": [{"scanner": "other", "id": "CVE-1", "package": 0}],
    }
    scan = read(told, "seatrial")
    assert (scan.lease, scan.platform, scan.layers, scan.system) == (
        SCAN.lease,
        SCAN.platform,
        SCAN.layers,
        SCAN.system,
    )
    assert [one.name for one in scan.others] == [NAME]
    assert (scan.found[0].scanner, scan.found[0].real_severity) == (NAME, None)
    assert (scan.packages[1].scanner, scan.packages[1].owned_by, scan.reported[0].scanner) == (
        NAME,
        None,
        NAME,
    )
    assert scan.reported[0].package == 1


def match(**members: Any) -> Match:
    usual: dict[str, Any] = {
        "package_index": 0,
        "id": "CVE-2019-1549",
        "aliases": ("ALPINE-1",),
        "kind": "vulnerability",
        "severity": "low",
        "score": None,
        "summary": "",
        "fixed_version": "2",
        "state": "affected",
        "kev": True,
        "epss": None,
        "published_at": None,
    }
    return Match(**usual | members)


def test_what_our_advisories_know_stays_as_they_have_it() -> None:
    told = [
        {"id": "ALPINE-1", "package": 0, "severity": "critical"},
        {"id": "GHSA-1", "package": 0, "severity": "low", "aliases": ["CVE-2020-9"]},
        {"id": "CVE-2020-9", "package": 0, "severity": "high", "fixed_version": "3", "score": 8},
    ]
    scan = read({"scanner": "s", "digest": DIGEST, "packages": [{**LIBSSL, "path": "x", "layer": 0}],
                 "reported": told}, "seatrial")  # fmt: skip
    matches = with_reported(scan, [match()])
    assert matches[0] == match()
    assert [(one.id, one.severity, one.fixed_version, one.score) for one in matches[1:]] == [
        ("GHSA-1", "high", "3", 8.0)
    ]


def test_the_label_says_what_it_is() -> None:
    declared = parse_declaration('{"version": 1, "limits": {"memory_bytes": 9999999999}}')
    assert (declared.format, declared.command) == ("seatrial", None)
    ceiling = Limits(memory_bytes=2**31, wall_seconds=60)
    assert declared.limited(ceiling).memory_bytes == 2**31
    assert declared.limited(ceiling).wall_seconds == 60
    assert parse_declaration('{"version": 1}').limited(SCANNER_LIMITS) == SCANNER_LIMITS
    for label, why in (
        (None, "has no label io.seatrial.scanner"),
        ("x" * 20_000, "more than 16384 characters"),
        ("[]", "is not JSON"),
        ('{"version": true}', "version: "),
        ('{"version": 2}', "version: "),
        ('{"version": 1, "network": true}', "network: "),
        ('{"version": 1, "command": []}', "command: "),
    ):
        with pytest.raises(RequestInvalidError, match=why):
            parse_declaration(label)


def test_purls_are_packages_as_their_metadata_has_them() -> None:
    assert of_purl("pkg:deb/debian/bash@5.2?arch=amd64") == ("dpkg", "bash", "5.2")
    assert of_purl("pkg:rpm/rocky/openssl@1.1.1k-7.el8?epoch=1") == ("rpm", "openssl", "1:1.1.1k-7.el8")
    assert of_purl("pkg:maven/org.a/core@2") == ("java", "org.a:core", "2")
    assert of_purl("pkg:golang/golang.org/x/text@v0.3.5") == ("go", "golang.org/x/text", "v0.3.5")
    assert of_purl("pkg:gem/rack@2") == ("other", "rack", "2")
    assert of_purl("rack") is None


@pytest.mark.parametrize(
    ("mode", "own", "group", "then"),
    [
        (0o100600, False, False, 0o604),
        (0o100000, True, True, 0o400),
        (0o100040, False, True, 0o040),
        (0o040700, False, False, 0o705),
        (0o040755, False, False, 0o755),
        (0o104711, False, True, 0o4751),
        (0o020000, False, False, 0o000),
        (0o120777, False, False, 0o777),
    ],
)
def test_what_the_container_s_root_may_read(mode: int, own: bool, group: bool, then: int) -> None:
    assert readable_mode(mode, own=own, group=group) == then
