"""What is different between two images, from what is known of them; and reports read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from registry.advisories.file import Status
from registry.advisories.report import Excused, Report
from registry.errors import RequestInvalidError
from registry.formats.difference import difference, difference_document, difference_table, exit_code
from registry.formats.document import document
from registry.formats.reading import is_document, parse_document, read_document
from tests.kit.scans import make_found, make_package
from tests.unit.formats.test_formats import AT, HOSTILE, MATCH, report_of, scan_of

BASE = Status("g1", ())
NAMES = ("old", "new")


def known(*versions: str, found: int = 1, advisories: Status | None = BASE) -> Report:
    """An image with these versions of one package, each affected by the same vulnerability."""
    packages = [make_package("libssl3", version) for version in versions]
    scan = scan_of(*packages, found=[make_found(where=f"opt/{number}") for number in range(found)])
    matches = tuple(replace(MATCH, package_index=index) for index in range(len(versions)))
    return Report(scan, AT, matches, advisories)


def test_what_is_new_gone_and_the_same() -> None:
    before = known("1", "2")
    after = known("2", "3", found=2)
    worse = replace(MATCH, id="CVE-2026-9", severity="unknown")
    after = replace(after, matches=(*after.matches, worse))
    found = difference(before, after, names=NAMES)
    assert [(one.name, one.before, one.after) for one in found.packages] == [
        ("libssl3", ("1", "2"), ("2", "3"))
    ]
    assert [(one.id, one.of, one.severity) for one in found.new] == [
        ("github-token", "opt/1", "high"),
        ("CVE-2026-9", "libssl3", "unknown"),
    ]
    # In another version it is still the same vulnerability, and in two places one.
    assert [one.id for one in found.same] == ["github-token", "CVE-2025-9230"]
    assert (found.gone, found.notes) == ((), ())
    back = difference(after, before, names=NAMES)
    assert (back.gone, back.new, back.same) == (found.new, (), found.same)
    nothing = difference(after, after, names=NAMES)
    assert (nothing.packages, nothing.new, nothing.gone) == ((), (), ())

    text = difference_table(found).decode()
    assert "packages: 0 added, 0 removed, 1 changed\n  ~ dpkg libssl3 1, 2 -> 2, 3\n" in text
    assert "findings new: 1 high, 1 unknown\n" in text
    added = difference(known(), known("1"), names=NAMES)
    assert "  + dpkg libssl3 1\n" in difference_table(added).decode()
    told = json.loads(difference_document(found))
    assert told["findings"]["new"]["by_severity"] == {"high": 1, "unknown": 1}
    assert [one["id"] for one in told["findings"]["same"]["items"]] == ["github-token", "CVE-2025-9230"]


def test_what_is_excused_is_no_finding_and_new_once_it_is_not() -> None:
    after = known("1")
    excused = Excused(MATCH.id, 0, "vex", "not_affected", "", "them", None)
    before = replace(after, excused=(excused,))
    assert [one.id for one in difference(before, after, names=NAMES).new] == [MATCH.id]
    assert [one.id for one in difference(after, before, names=NAMES).gone] == [MATCH.id]


def test_only_all_that_was_looked_at_can_pass() -> None:
    before, after = known("1"), known("1", found=2)
    new = difference(before, after, names=NAMES)
    assert exit_code(new, after, ("critical",)) == 0
    assert exit_code(new, after, ("high", "critical")) == 1
    unsure = replace(after, matches=(replace(MATCH, id="CVE-1", severity="unknown"),))
    assert exit_code(difference(before, unsure, names=NAMES), unsure, ("critical",)) == 1
    partly = replace(after, not_looked_up={"npm": 3})
    assert exit_code(difference(before, partly, names=NAMES), partly, ("critical",)) == 2
    cut = replace(after, scan=after.scan.model_copy(update={"truncated": True}))
    assert exit_code(difference(before, cut, names=NAMES), cut, ("critical",)) == 2


def test_what_two_reports_cannot_tell_is_noted() -> None:
    one = known("1")
    for before, after, said in (
        (one, replace(one, advisories=Status("g2", ())), "different advisories"),
        (replace(one, advisories=None), one, "for the first image"),
        (one, replace(one, advisories=None), "for the second image"),
        (replace(one, advisories=None), replace(one, advisories=None), "are not compared"),
        (one, replace(one, not_looked_up={"npm": 3}), "nothing about 3 packages of the second image"),
        (report_of(), report_of(), "the scan of the first image is not complete"),
    ):
        notes = difference(before, after, names=NAMES).notes
        assert any(said in note for note in notes), (said, notes)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    for said in ("", HOSTILE):
        written = report_of(said)
        raw = document(written, "an image")
        name, read = parse_document(raw, what="it")
        assert name == "an image"
        assert replace(read, advisories=None) == replace(written, advisories=None)
        assert read.advisories == Status("g1", ())
        assert difference(written, read, names=NAMES).new == ()
    file = tmp_path / "a.json"
    file.write_bytes(raw)
    assert is_document(file)
    assert read_document(file)[1] == read
    assert not is_document(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vulnerabilities": [{"package_index": 7}]}, "id"),
        ({"packages": 3}, "packages"),
        ({"scanned_at": "yesterday"}, "datetime"),
        ({"advisories": []}, ""),
        ({"vulnerabilities": None}, ""),
        ({"digest": None}, "digest"),
    ],
)
def test_what_is_no_report_is_refused(change: dict[str, object], said: str) -> None:
    whole = json.loads(document(report_of(), "x"))
    with pytest.raises(RequestInvalidError, match="it is no report of --format json") as caught:
        parse_document(json.dumps(whole | change).encode(), what="it")
    assert said in caught.value.message
    beyond = [{**whole["vulnerabilities"][0], "package_index": 99}]
    with pytest.raises(RequestInvalidError, match="a package that is not there"):
        parse_document(json.dumps(whole | {"vulnerabilities": beyond}).encode(), what="it")
    for raw in (b"", b"[]", b"{}", b"\xff", b"[" * 100_000):
        with pytest.raises(RequestInvalidError, match="is no report"):
            parse_document(raw, what="it")
