"""Statements of VEX: which matches they excuse, and what in them counts for nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.advisories.file import Status
from registry.advisories.report import Report
from registry.errors import RequestInvalidError
from registry.formats import vex
from registry.formats.cyclonedx import cyclonedx
from registry.formats.excusing import excuse
from registry.formats.vex import read_vex
from tests.kit.scans import make_package
from tests.unit.formats.test_formats import AT, DIGEST, HOSTILE, IMAGE, MATCH, report_of, scan_of

CVE = MATCH.id
OPENSSL = "pkg:deb/debian/openssl"
LIBSSL = "pkg:deb/debian/libssl3@3.0.17-1~deb12u2?arch=amd64&distro=debian-12"
OTHER = "sha256:" + "2" * 64
SCAN = scan_of(
    make_package("libssl3", "3.0.17-1~deb12u2", source="openssl", architecture="amd64", layer=1),
    make_package("lodash", "4.17.15", kind="npm", ecosystem="npm", path="a"),
    make_package("lodash", "4.17.20", kind="npm", ecosystem="npm", path="b"),
)
LODASH = replace(MATCH, package_index=1, id="CVE-2020-8203", aliases=("GHSA-p6mc-m468-83gw",))
KNOWN = Report(SCAN, AT, (MATCH, LODASH, replace(LODASH, package_index=2)), Status("g", ()))


def openvex(*statements: dict[str, Any], **members: Any) -> bytes:
    document = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://vex.example/1",
        "author": "The makers",
        "timestamp": "2026-11-01T00:00:00Z",
        "version": 1,
        "statements": list(statements),
    }
    return json.dumps(document | members).encode()


def said(*products: Any, cve: Any = CVE, **members: Any) -> dict[str, Any]:
    usual = {"status": "not_affected", "justification": "component_not_present"}
    return usual | {
        "vulnerability": {"name": cve} if isinstance(cve, str) else cve,
        "products": [{"@id": one} if isinstance(one, str) else one for one in products],
        **members,
    }


def excused(*documents: bytes, known: Report = KNOWN, image: str = IMAGE) -> list[int]:
    """The packages of the matches that are excused."""
    found = excuse(known, [read_vex(one, what="it") for one in documents], image)
    return [one.package_index for one in found.excused]


@pytest.mark.parametrize(
    ("product", "counts"),
    [
        (LIBSSL, True),
        ("pkg:deb/debian/libssl3", True),
        ("pkg:deb/debian/libssl3@3.0.17-1~deb12u2", True),
        ("pkg:deb/debian/libssl3@3.0.17-1~deb12u3", False),
        ("pkg:deb/debian/libssl3?distro=debian-11", False),
        ("pkg:deb/ubuntu/libssl3", False),
        ("pkg:deb/libssl3", False),
        # Advisories, and who writes of them, know a distribution's package by its source.
        (OPENSSL, True),
        (f"{OPENSSL}@3.0.17-1~deb12u2?arch=source", True),
        (f"pkg:oci/app@{DIGEST}", True),
        (f"pkg:oci/other@{DIGEST.replace(':', '%3A')}", True),
        (f"pkg:oci/app@{OTHER}", False),
        ("pkg:oci/app", True),
        ("pkg:oci/app?repository_url=host.example:5000/team/app", True),
        ("pkg:oci/app?repository_url=elsewhere.example/team/app", False),
        ("pkg:oci/other", False),
        ({"@id": "x", "hashes": {"sha-256": "1" * 64}}, True),
        ({"@id": "x", "hashes": {"sha-256": "2" * 64}}, False),
        (DIGEST, True),
        ({"@id": "x", "identifiers": {"purl": LIBSSL}}, True),
        ({"@id": f"pkg:oci/app@{DIGEST}", "subcomponents": [{"@id": OPENSSL}]}, True),
        ({"@id": f"pkg:oci/app@{DIGEST}", "subcomponents": [{"@id": "pkg:npm/lodash"}]}, False),
        ({"@id": f"pkg:oci/app@{DIGEST}", "subcomponents": [{"@id": "nobody knows"}]}, False),
        ({"@id": f"pkg:oci/app@{OTHER}", "subcomponents": [{"@id": OPENSSL}]}, False),
        ({"@id": "pkg:deb/debian/libssl3", "subcomponents": [{"@id": "pkg:npm/lodash"}]}, False),
    ],
)
def test_a_statement_counts_for_its_product_only(product: Any, counts: bool) -> None:
    assert excused(openvex(said(product))) == ([0] if counts else [])


def test_an_image_in_a_folder_is_known_by_its_digest_only() -> None:
    assert excused(openvex(said("pkg:oci/app")), image="oci:app:1") == []
    assert excused(openvex(said(f"pkg:oci/app@{DIGEST}")), image="oci:app:1") == [0]


def test_a_version_counts_where_it_is_said() -> None:
    name = LODASH.id
    assert excused(openvex(said("pkg:npm/lodash", cve=name))) == [1, 2]
    assert excused(openvex(said("pkg:npm/lodash@4.17.15", cve=name))) == [1]
    # That some version of it is fixed says nothing of this one.
    fixed = {"cve": name, "status": "fixed", "justification": ""}
    assert excused(openvex(said("pkg:npm/lodash@4.17.20", **fixed))) == [2]
    assert excused(openvex(said("pkg:npm/lodash", **fixed))) == []


def test_a_vulnerability_has_several_names() -> None:
    (alias,) = LODASH.aliases
    for about in (
        alias,
        {"name": alias},
        {"name": "OTHER-1", "aliases": [LODASH.id]},
        {"@id": f"https://x/{alias}"},
    ):
        assert excused(openvex(said("pkg:npm/lodash@4.17.15", cve=about))) == [1], about
    # A bulletin may be about several.
    shared = {"name": "OTHER-1", "aliases": [alias]}
    assert excused(openvex(said("pkg:npm/lodash", cve=shared))) == []


def test_the_last_statement_counts_whatever_its_place() -> None:
    before = said(LIBSSL, timestamp="2026-11-02T00:00:00Z")
    after = said(LIBSSL, status="affected", timestamp="2026-11-03T00:00:00+00:00")
    assert excused(openvex(after, before)) == []
    assert excused(openvex(after), openvex(before)) == []
    assert excused(openvex(after, before | {"timestamp": "2026-11-04T00:00:00Z"})) == [0]
    assert excused(openvex(before, said(DIGEST, status="under_investigation", timestamp="2026-12-01"))) == []
    # The whole image, and a package in it.
    assert excused(openvex(said(DIGEST), after)) == []


def test_who_said_it_and_why_stays_with_the_finding() -> None:
    (one,) = excuse(KNOWN, [read_vex(openvex(said(LIBSSL)), what="it")], IMAGE).excused
    assert (one.id, one.by, one.status) == (CVE, "vex", "not_affected")
    assert (one.justification, one.author) == ("component_not_present", "The makers")
    impact = said(LIBSSL, justification="", impact_statement="never\x1b called")
    (one,) = excuse(KNOWN, [read_vex(openvex(impact), what="it")], IMAGE).excused
    assert one.justification == "never? called"


def test_statements_of_cyclonedx_are_read_in_what_we_write() -> None:
    document = json.loads(cyclonedx(KNOWN, IMAGE))
    assert excused(json.dumps(document).encode()) == []
    first = document["vulnerabilities"][0]
    first["analysis"] = {"state": "not_affected", "justification": "code_not_reachable"}
    assert excused(json.dumps(document).encode()) == [0]
    for state, counts in (
        ("false_positive", True),
        ("resolved", True),
        ("exploitable", False),
        ("in_triage", False),
    ):
        first["analysis"] = {"state": state}
        assert excused(json.dumps(document).encode()) == ([0] if counts else []), state
    # By BOM-link, by the image, by a name that is in no document.
    first["analysis"] = {"state": "not_affected"}
    for ref, counts in ((f"urn:cdx:x/1#{LIBSSL}", True), ("image", True), (OPENSSL, True), ("what", False)):
        first["affects"] = [{"ref": ref}]
        assert excused(json.dumps(document).encode()) == ([0] if counts else []), ref


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (said(LIBSSL, status="harmless"), "its status is none of OpenVEX"),
        (said(LIBSSL, justification=""), "without a justification"),
        (said("libssl3"), "names no product by purl or digest"),
        (said(), "names no product by purl or digest"),
        (said(LIBSSL, cve=""), "it names no vulnerability"),
        (7, "it is no object"),
        (said(LIBSSL, status=["fixed"]), "its status is none of OpenVEX"),
    ],
)
def test_what_makes_no_sense_counts_for_nothing_and_is_told(statement: Any, why: str) -> None:
    found = excuse(KNOWN, [read_vex(openvex(statement, statement), what="vex.json")], IMAGE)
    assert found.excused == ()
    (note,) = found.notes
    assert note.startswith("vex.json: 2 statements count for nothing: ")
    assert why in note


def test_a_document_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vex, "MAX_STATEMENTS", 3)
    found = read_vex(openvex(*[said(LIBSSL)] * 5), what="it")
    assert (len(found.statements), found.notes) == (
        3,
        ("it: 1 statements count for nothing: there are more than 3",),
    )
    monkeypatch.setattr(vex, "MAX_NAMED", 6)
    found = read_vex(openvex(*[said(LIBSSL, OPENSSL)] * 3), what="it")
    assert (len(found.statements), len(found.notes)) == (2, 1)
    many = said(LIBSSL) | {"vulnerability": {"name": CVE, "aliases": ["CVE-2", "CVE-3", "CVE-4", "CVE-5"]}}
    found = read_vex(openvex(many, many), what="it")
    why = "they name more than 6 vulnerabilities and products"
    assert (len(found.statements), found.notes) == (1, (f"it: 1 statements count for nothing: {why}",))
    monkeypatch.setattr(vex, "MAX_BYTES", 100)
    with pytest.raises(RequestInvalidError, match="has more than 100 bytes"):
        read_vex(openvex(), what="it")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"@context": "x"}', b"[" * 10_000, b'{"a": 1, "a": 2}'])
def test_what_is_no_vex_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestInvalidError, match="it is no document of"):
        read_vex(raw, what="it")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(["", HOSTILE, CVE, LIBSSL, "fixed", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "@id", "purl", "ref", "state", "bom-ref", "hashes", "sha-256", "alg"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
NAMES = (
    *("status", "justification", "vulnerability", "products", "timestamp", "supplier"),
    *("id", "analysis", "affects", "updated"),
)


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6) | JSON, max_size=3), JSON, JSON)
def test_whatever_stands_in_it_is_read_or_told(statements: list[Any], other: Any, more: Any) -> None:
    known = report_of(HOSTILE)
    whole = {"bomFormat": "CycloneDX", "vulnerabilities": statements, "metadata": other, "components": more}
    for raw in (openvex(*statements, author=other, last_updated=more), json.dumps(whole).encode()):
        try:
            read = read_vex(raw, what="it")
        except RequestInvalidError:
            continue
        excuse(known, [read], IMAGE)
