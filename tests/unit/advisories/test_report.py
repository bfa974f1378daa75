"""What is known of an image is never more than what was looked up."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from registry.advisories.report import Excused, Report, report
from registry.contract.scan import Incomplete, Scan
from tests.kit.advisories import affects, filed, record
from tests.kit.scans import make_package, make_scan

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
JOB = {"lease": "", "digest": "sha256:" + "1" * 64, "platform": "linux/amd64"}
LODASH = make_package("lodash", "4.17.15", kind="npm", ecosystem="npm")
SCAN = Scan.model_validate_json(json.dumps(make_scan(JOB, make_package(), LODASH)))


def test_a_report_says_what_was_looked_up(tmp_path: Path) -> None:
    one = record("GHSA-p6mc-m468-83gw", affects("npm", "lodash", "introduced=0", "fixed=4.17.19"))
    advisories, _ = filed(tmp_path / "a.db", one)
    with closing(advisories):
        known = report(SCAN, advisories, scanned_at=AT)
        assert [(match.id, match.package_index) for match in known.matches] == [("GHSA-p6mc-m468-83gw", 1)]
        assert known.not_looked_up == {"Debian:12": 1}
        assert known.advisories == advisories.status()
        assert not known.is_complete()
        npm = report(SCAN.model_copy(update={"packages": SCAN.packages[1:]}), advisories, scanned_at=AT)
    assert npm.is_complete()
    partly = npm.scan.model_copy(update={"incomplete": (Incomplete(scanner="java", reason="cut short"),)})
    assert not Report(partly, AT, npm.matches, npm.advisories).is_complete()


def test_without_advisories_nothing_is_known_to_be_well() -> None:
    known = report(SCAN, None, scanned_at=AT)
    assert (known.matches, known.advisories) == ((), None)
    assert not known.is_complete()


def test_the_first_of_several_excuses_is_told() -> None:
    said = [Excused("CVE-2026-1", 0, "vex", "not_affected", "", author, None) for author in ("a", "b")]
    other = Excused("CVE-2026-1", 1, "waiver", "waived", "", "c", None)
    known = Report(SCAN, AT, excused=(*said, other))
    assert known.excuses() == {("CVE-2026-1", 0): said[0], ("CVE-2026-1", 1): other}
