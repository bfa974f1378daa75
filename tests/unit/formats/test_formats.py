"""Formats of a report: their own schemas take them, whatever an image holds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from license_expression import get_spdx_licensing
from packageurl import PackageURL
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif

from registry.advisories.file import Source, Status
from registry.advisories.licences import parse_licences
from registry.advisories.matching import Match
from registry.advisories.report import BaseImage, Excused, Report
from registry.advisories.reported import with_reported
from registry.contract.scan import Package, PackageKind, Scan, System
from registry.formats.excusing import excuse
from registry.formats.forms import FORMS
from registry.formats.names import Format
from registry.formats.purls import purl_of
from registry.formats.shown import time_of
from registry.formats.vex import read_vex
from tests.kit.scans import make_found, make_package, make_scan
from tests.kit.sources import ROOT

AT = datetime(2026, 11, 29, 12, 30, 15, 123456, tzinfo=UTC)
DIGEST = "sha256:" + "1" * 64
IMAGE = "host.example:5000/team/app:1.2"
HOSTILE = (
    "\x1b[2J\r\n\0\u202e \ud7ff\ufffe[a](javascript:x) ?#@%/../..//&=<script>\N{PILE OF POO}{" + '"' + "\\"
)
DEBIAN = System(id="debian", version="12", name="Debian GNU/Linux 12 (bookworm)")
SOURCE = Source("debian", "tracker", "x", AT, None, "MIT", False, 1, 0, DIGEST, ())
AGE = f"held against advisories of {AT:%Y-%m-%d} (debian)"
MATCH = Match(
    package_index=0,
    id="CVE-2025-9230",
    aliases=("DSA-6015-1",),
    kind="vulnerability",
    severity="high",
    score=7.5,
    summary="Out-of-bounds read",
    fixed_version="3.0.17-1~deb12u3",
    state="affected",
    kev=True,
    epss=0.25,
    published_at=AT,
)
SPDX = Draft7Validator(json.loads((ROOT / "tests" / "data" / "schemas" / "spdx-2.3.json").read_text()))
CYCLONEDX = JsonStrictValidator(SchemaVersion.V1_6)


def scan_of(*packages: Mapping[str, Any], said: str = "", **members: Any) -> Scan:
    lines = ("ADD base", f"RUN apt-get install{said}")
    layers = [{"diff_id": f"sha256:{n}" + "d" * 63, "created_by": line} for n, line in enumerate(lines)]
    job = {"lease": "", "digest": DIGEST, "platform": "linux/amd64"}
    scan = make_scan(job, *map(dict, packages), layers=layers, system=DEBIAN.model_dump(), **members)
    return Scan.model_validate_json(json.dumps(scan))


def report_of(said: str = "") -> Report:
    """A report with something of everything."""
    openssl = make_package(
        "libssl3", "3.0.17-1~deb12u2", source="openssl", architecture="amd64", layer=1, licences=["MIT", said]
    )
    lodash = make_package(f"lodash{said}", f"4.17.15{said}", kind="npm", ecosystem="npm", path=f"a{said}")
    scan = scan_of(
        openssl,
        lodash,
        lodash,
        {**lodash, "path": "b"},
        said=said,
        found=[
            make_found(title=f"a token{said}", line=3, deleted_in_layer=1),
            make_found(kind="misconfiguration", rule="ST-USER-ROOT", where=f"user{said}", layer=None),
            make_found(kind="malware", rule="eicar", where=f"a: b{said}", severity="unknown", evidence=""),
        ],
        incomplete=[{"scanner": "rpm", "where": f"x{said}", "reason": f"cut short{said}", "layer": 0}],
        truncated=True,
    )
    unscored = replace(
        MATCH, score=None, fixed_version=None, epss=None, kev=False, severity="unknown", published_at=None
    )
    matches = (
        MATCH,
        *(
            replace(unscored, package_index=at, id=f"CVE-2020-1{said}", summary=said, state="unknown")
            for at in (1, 2, 3)
        ),
    )
    excused = (
        Excused(MATCH.id, 0, "vex", "not_affected", "component_not_present", f"them{said}", None),
        Excused(matches[2].id, 2, "waiver", "waived", f"we live with it{said}", "admin", AT),
    )
    return Report(scan, AT, matches, Status("g1", (SOURCE,)), {"npm": 3, "": 1}, excused)


def written(form: Format, known: Report, image: str = IMAGE) -> Any:
    """The document, held to its schema."""
    raw = FORMS[form].write(known, image)
    assert raw == FORMS[form].write(known, image)
    if form == "table":
        return raw.decode()
    document = json.loads(raw)
    if form == "cyclonedx":
        assert CYCLONEDX.validate_str(raw.decode()) is None
        refs = [one["bom-ref"] for one in document["components"]]
        assert len({*refs, "image"}) == len(refs) + 1
        named = [one["ref"] for each in document.get("vulnerabilities", ()) for one in each["affects"]]
        assert {*named, *document["dependencies"][0]["dependsOn"]} <= set(refs)
    elif form == "spdx":
        SPDX.validate(document)
        ids = [one["SPDXID"] for one in document["packages"]]
        assert len({*ids, "SPDXRef-DOCUMENT"}) == len(ids) + 1
        assert {one["relatedSpdxElement"] for one in document["relationships"]} == set(ids)
        declared = " ".join(one["licenseDeclared"] for one in document["packages"])
        references = [one["licenseId"] for one in document.get("hasExtractedLicensingInfos", ())]
        assert set(re.findall(r"LicenseRef-[A-Za-z0-9.-]+", declared)) == set(references)
        assert len(set(references)) == len(references)
    elif form == "sarif":
        Sarif.model_validate_json(raw)
        (run,) = document["runs"]
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        assert [rules[one["ruleIndex"]] for one in run["results"]] == [
            one["ruleId"] for one in run["results"]
        ]
    elif form == "openvex":
        read = read_vex(raw, what="it")
        assert (len(read.statements), read.notes) == (len(document["statements"]), ())
    return document


def test_what_another_scanner_says_has_its_name() -> None:
    told = [{"scanner": "trivy", "id": "CVE-2099-1", "package": 0, "severity": "high"}]
    scan = scan_of(make_package(), found=[make_found(scanner="eicar")], reported=told)
    known = Report(scan, AT, with_reported(scan, (MATCH,)))
    (sarif,) = written("sarif", known)["runs"]
    named = {one["ruleId"]: one["properties"].get("reportedBy") for one in sarif["results"]}
    assert named == {MATCH.id: None, "CVE-2099-1": ["trivy"], "secret/github-token": ["eicar"]}
    by_id = {
        one["id"]: [each["value"] for each in one["properties"] if each["name"] == "seatrial:reportedBy"]
        for one in written("cyclonedx", known)["vulnerabilities"]
    }
    assert by_id == {MATCH.id: [], "CVE-2099-1": ["trivy"]}


@pytest.mark.parametrize("form", get_args(Format))
def test_a_hostile_image_is_written_as_its_schema_says(form: Format) -> None:
    for said in ("", HOSTILE):
        document = written(form, report_of(said))
        if form == "table":
            assert all(letter.isprintable() or letter == "\n" for letter in document)
    written(form, Report(scan_of(), AT), "oci:some where/lay:out")


@example("\x85", "", "dpkg")
@example("/", " ", "npm")
@example("@", "@", "npm")
@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(get_args(PackageKind)))
def test_every_purl_is_one(name: str, version: str, kind: PackageKind) -> None:
    package = Package(kind=kind, ecosystem="", name=name, version=version, path="x", layer=0)
    purl = purl_of(package, DEBIAN)
    assert purl is None or PackageURL.from_string(purl).type


@pytest.mark.parametrize(
    ("kind", "name", "version", "purl"),
    [
        ("dpkg", "libc6", "2:2.36-9+b1", "deb/debian/libc6@2:2.36-9%2Bb1?arch=amd64&distro=debian-12"),
        ("apk", "musl", "1.2.5-r0", "apk/debian/musl@1.2.5-r0?arch=amd64&distro=debian-12"),
        ("rpm", "ssl", "1:1.1.1k-7", "rpm/debian/ssl@1.1.1k-7?arch=amd64&distro=debian-12&epoch=1"),
        ("python", "Foo_Bar", "1.0", "pypi/foo-bar@1.0"),
        ("npm", "@scope/name", "1.0", "npm/%40scope/name@1.0"),
        ("go", "golang.org/x/text", "v0.3.5", "golang/golang.org/x/text@v0.3.5"),
        ("go", "stdlib", "1.26.8", "golang/stdlib@1.26.8"),
        ("go", "example.com/app", "(devel)", "golang/example.com/app"),
        ("rust", "serde", "1.0", "cargo/serde@1.0"),
        ("java", "org.a:b", "2.14.1", "maven/org.a/b@2.14.1"),
    ],
)
def test_packages_are_named_as_the_world_names_them(
    kind: PackageKind, name: str, version: str, purl: str
) -> None:
    package = Package(
        kind=kind, ecosystem="", name=name, version=version, architecture="amd64", path="x", layer=0
    )
    assert purl_of(package, DEBIAN) == f"pkg:{purl}"


def test_cyclonedx_says_what_is_affected_and_what_is_excused() -> None:
    document = written("cyclonedx", report_of())
    meta = document["metadata"]
    assert meta["timestamp"] == "2026-11-29T12:30:15Z"
    assert meta["component"]["hashes"] == [{"alg": "SHA-256", "content": "1" * 64}]
    assert meta["component"]["purl"] == (
        f"pkg:oci/app@{DIGEST}?arch=amd64&repository_url=host.example:5000/team/app&tag=1.2"
    )
    ssl = document["components"][1]
    assert ssl["licenses"] == [{"license": {"id": "MIT", "acknowledgement": "declared"}}]
    properties = {one["name"]: one["value"] for one in ssl["properties"]}
    assert (properties["seatrial:layer:index"], properties["seatrial:source"]) == ("1", "openssl")
    first, second, third = document["vulnerabilities"]
    assert first["analysis"] == {
        "detail": "vex by them: component_not_present",
        "state": "not_affected",
        "justification": "code_not_present",
    }
    assert first["ratings"] == [{"severity": "high", "score": 7.5}]
    assert first["recommendation"] == "Update to 3.0.17-1~deb12u3 or later."
    told = {one["name"]: one["value"] for one in first["properties"]}
    assert told["seatrial:introducedBy"] == "layer 1 (RUN apt-get install)"
    assert (told["seatrial:kev"], told["seatrial:epss"]) == ("true", "0.25")
    # Those of which the same is known are one, the excused one stands apart.
    assert (len(second["affects"]), "analysis" in second) == (2, False)
    assert (len(third["affects"]), third["analysis"]["state"]) == (1, "exploitable")
    # That nobody looked is not that there is nothing.
    assert "vulnerabilities" not in written("cyclonedx", Report(scan_of(), AT))
    assert written("cyclonedx", Report(scan_of(), AT, advisories=Status("g", ())))["vulnerabilities"] == []


def test_an_sbom_is_the_same_whatever_advisories_say() -> None:
    known = report_of()
    document = written("spdx", known)
    assert document == written("spdx", replace(known, matches=(), advisories=None, excused=()))
    image, system, ssl = document["packages"][:3]
    assert (image["primaryPackagePurpose"], image["versionInfo"]) == ("CONTAINER", DIGEST)
    assert (system["name"], system["versionInfo"]) == ("debian", "12")
    assert ssl["externalRefs"][0]["referenceLocator"].startswith("pkg:deb/debian/libssl3@3.0.17-1~deb12u2?")
    assert ssl["sourceInfo"] == "var/lib/dpkg/status of layer 1 (RUN apt-get install)"
    other = written("spdx", replace(known, scanned_at=AT.replace(day=30)))
    assert document["documentNamespace"] != other["documentNamespace"]


IN_PART = "GPL-2.0-or-later AND LicenseRef-public-domain"
UNKNOWN = [{"license": {"name": "GPL"}}, {"license": {"name": "public-domain"}}]
LICENCES: list[tuple[PackageKind, tuple[str, ...], list[dict[str, Any]], str, str | None]] = [
    ("dpkg", ("Expat",), [{"license": {"id": "MIT"}}], "MIT", "Expat"),
    ("dpkg", ("MIT",), [{"license": {"id": "MIT"}}], "MIT", None),
    ("dpkg", ("GPL-2+", "public domain"), [{"expression": IN_PART}], IN_PART, "GPL-2+, public domain"),
    ("npm", ("MIT or odd/one",), [{"expression": "MIT OR LicenseRef-odd-one"}], "MIT OR LicenseRef-odd-one",
     "MIT or odd/one"),
    ("apk", ("GPL", "public-domain"), UNKNOWN, "LicenseRef-GPL AND LicenseRef-public-domain",
     "GPL, public-domain"),
    ("go", (), [], "NOASSERTION", None),
]  # fmt: skip


def test_licences_are_named_as_spdx_names_them_and_else_by_their_words() -> None:
    packages = [
        make_package(f"p{number}", kind=kind, licences=words)
        for number, (kind, words, *_) in enumerate(LICENCES)
    ]
    # One that a distribution's package brought is under its licence all the same.
    packages.append({**packages[0], "owned_by": "p1"})
    known = Report(scan_of(*packages), AT)
    components = written("cyclonedx", known)["components"][1:]
    document = written("spdx", known)
    for number, (_, words, of_cyclonedx, declared, comment) in enumerate([*LICENCES, LICENCES[0]]):
        said = components[number].get("licenses", [])
        for one in said:
            assert one.get("license", one).pop("acknowledgement") == "declared"
        assert said == of_cyclonedx
        properties = {one["name"]: one["value"] for one in components[number]["properties"]}
        is_named = bool(said) and "name" not in said[0].get("license", {})
        assert properties.get("seatrial:licences") == (comment if is_named else None), words
        package = document["packages"][number + 2]
        assert (package["licenseDeclared"], package["licenseConcluded"]) == (declared, "NOASSERTION")
        assert package.get("licenseComments") == (comment and f"its metadata says: {comment}")
    references = {one["licenseId"]: one["extractedText"] for one in document["hasExtractedLicensingInfos"]}
    assert references == {
        # Two spellings have the same name.
        "LicenseRef-public-domain": "public domain\npublic-domain",
        "LicenseRef-odd-one": "odd/one",
        "LicenseRef-GPL": "GPL",
    }


def test_where_licences_are_more_text_than_is_read_their_words_are_written() -> None:
    words = [[f"{n} {k}".ljust(300, "x") for k in range(50)] for n in range(21)]
    many = [make_package(f"p{n}", licences=said) for n, said in enumerate(words)]
    known = Report(scan_of(*many), AT)
    last = written("spdx", known)["packages"][-1]
    assert last["licenseDeclared"] == "NOASSERTION"
    assert last["licenseComments"].startswith("its metadata says: 20 0xxx")
    assert "name" in written("cyclonedx", known)["components"][-1]["licenses"][0]["license"]


def test_all_names_of_licences_that_we_know_are_known_to_cyclonedx() -> None:
    for name in get_spdx_licensing().known_symbols:
        said = parse_licences("apk", (name,)).expression
        if said is not None and " " not in said:
            document = written("cyclonedx", Report(scan_of(make_package(licences=[name])), AT))
            assert document["components"][1]["licenses"][0]["license"]["id"] == said


def test_sarif_has_levels_places_and_what_was_not_looked_at() -> None:
    (run,) = written("sarif", report_of())["runs"]
    ssl, *_, secret, user, malware = run["results"]
    assert (ssl["ruleId"], ssl["level"]) == ("CVE-2025-9230", "error")
    assert "fixed in 3.0.17-1~deb12u3; brought by layer 1 (RUN apt-get install)" in ssl["message"]["text"]
    assert ssl["suppressions"][0]["justification"].startswith("not_affected by them (vex)")
    place = ssl["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": "var/lib/dpkg/status", "uriBaseId": "IMAGE"}
    assert secret["locations"][0]["physicalLocation"]["region"] == {"startLine": 3}
    assert secret["properties"]["deletedInLayer"] == 1
    assert user["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "user"}]
    # A colon would make a scheme of what is before it.
    assert malware["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a%3A%20b"
    assert malware["level"] == "warning"
    rule = run["tool"]["driver"]["rules"][0]
    assert (rule["properties"]["security-severity"], rule["helpUri"]) == (
        "7.5",
        "https://osv.dev/vulnerability/CVE-2025-9230",
    )
    (invocation,) = run["invocations"]
    told = [one["message"]["text"] for one in invocation["toolExecutionNotifications"]]
    assert invocation["executionSuccessful"] is False
    assert "rpm x (layer 0): cut short" in told
    assert AGE in told
    assert run["properties"]["advisoriesAsOf"] == {"debian": time_of(AT)}
    assert "not looked up: 3 packages of npm, about which these advisories say nothing" in told


def test_the_table_says_what_mends_it_and_what_brought_it() -> None:
    said = written("table", report_of())
    assert (
        "high     CVE-2025-9230  libssl3 3.0.17-1~deb12u2 (layer 1): fixed in 3.0.17-1~deb12u3, exploited"
        in said
    )
    assert "; excused by them (vex, not_affected: component_not_present)\n" in said
    assert "  layer 1 (RUN apt-get install)\n" in said
    assert f"\n{AGE}\n" in said
    assert "no advisories were given" in written("table", Report(scan_of(), AT))


def test_what_came_with_the_base_is_told_apart() -> None:
    known = report_of()
    based = replace(known, base=BaseImage("team/base", DIGEST, 1))
    (run,) = written("sarif", based)["runs"]
    told = {one["ruleId"]: one["properties"].get("fromBase") for one in run["results"]}
    assert told == {
        MATCH.id: False, "CVE-2020-1": True, "secret/github-token": True, "malware/eicar": True,
        "misconfiguration/ST-USER-ROOT": None,
    }  # fmt: skip
    assert run["properties"]["base"] == f"team/base@{DIGEST}"
    assert [one["from_base"] for one in written("json", based)["vulnerabilities"]] == [False, *[True] * 3]
    said = written("table", based)
    assert f"built on team/base@{DIGEST}: its lowest 1 of 2 layers\n" in said
    assert "4 vulnerabilities, 3 of them from its base:\n" in said
    assert "lodash 4.17.15 (layer 0 of its base)" in said
    # Without one nothing is taken for the image's own.
    assert "no base of it is known" in written("table", known)
    (run,) = written("sarif", known)["runs"]
    assert not any("fromBase" in one["properties"] for one in run["results"])
    assert {one["from_base"] for one in written("json", known)["vulnerabilities"]} == {None}
    # SBOMs are the same for whoever may see which base.
    for form in ("cyclonedx", "spdx"):
        assert written(form, based) == written(form, known)


def test_what_somebody_answers_for_is_written_as_vex_and_read_again() -> None:
    known = report_of()
    document = written("openvex", known)
    by_vex, by_waiver = document["statements"]
    assert (by_vex["status"], by_vex["justification"]) == ("not_affected", "component_not_present")
    # Who waives lives with it, and says nothing of whether it does harm.
    assert (by_waiver["status"], by_waiver["supplier"]) == ("affected", "admin")
    assert by_waiver["action_statement"] == "waived until 2026-11-29T12:30:15Z: we live with it"
    assert [one["@id"] for one in by_waiver["products"][0]["subcomponents"]] == ["pkg:npm/lodash@4.17.15"]
    # So another scan of it takes from the document what is not to be mended, and nothing more.
    again = excuse(
        replace(known, excused=()), [read_vex(FORMS["openvex"].write(known, IMAGE), what="it")], IMAGE
    )
    assert [(one.id, one.package_index, one.by) for one in again.excused] == [(MATCH.id, 0, "vex")]
    assert written("openvex", replace(known, excused=()))["statements"] == []
