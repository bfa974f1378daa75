"""The file of advisories: the same bytes for the same sources, replaced whole or not at all."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from registry.advisories.building import build, check, swap
from registry.advisories.file import open_advisories
from registry.advisories.matching import match
from registry.advisories.staging import Incoming
from registry.advisories.values import Likelihood, Skip
from registry.errors import ConflictError, NotFoundError, RequestInvalidError, UnavailableError
from tests.kit.advisories import AS_OF, Thing, affects, incoming, record

ONE = record("X-1", affects("npm", "a", "introduced=0", "fixed=2.0.0"))
TWO = record("X-2", affects("npm", "a", "introduced=0", "fixed=3.0.0"))


def found(path: Path, version: str = "1.0.0") -> list[str]:
    with closing(open_advisories(path)) as advisories:
        return [one.id for one in match(advisories, [Thing("npm", "a", version)])]


def generation(path: Path) -> str:
    with closing(open_advisories(path)) as advisories:
        return advisories.generation


def test_sources_are_replaced_one_by_one_and_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    path, other = tmp_path / "a.sqlite", tmp_path / "folder" / "b.sqlite"
    build(path, [incoming("one", ONE), incoming("two", TWO)])
    build(other, [incoming("two", ONE, TWO)])
    build(other, [incoming("one", ONE)])
    assert found(other) == ["X-1", "X-2"]
    build(other, [incoming("two", TWO)])
    assert path.read_bytes() == other.read_bytes()
    assert generation(path) == generation(other)
    build(path, [], drop=["one"])
    assert found(path) == ["X-2"]
    assert generation(path) != generation(other)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".a.sqlite.lock", "a.sqlite", "folder"]


def test_the_generation_is_of_what_matches_not_of_when_it_came(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    build(path, [incoming("one", ONE)])
    before = generation(path), path.read_bytes()
    later = {**ONE, "modified": "2026-05-05T00:00:00Z"}
    build(path, [incoming("one", later, as_of="2026-12-01T00:00:00+00:00")])
    assert generation(path) == before[0]
    assert path.read_bytes() != before[1]
    with closing(open_advisories(path)) as advisories:
        (source,) = advisories.status().sources
    assert source.as_of.isoformat() == "2026-12-01T00:00:00+00:00"
    assert source.newest_at is not None
    assert source.newest_at.isoformat() == "2026-05-05T00:00:00+00:00"
    build(path, [incoming("one", TWO)])
    assert generation(path) != before[0]


def test_of_two_records_of_an_id_the_newer_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    newer = {**ONE, "modified": "2026-06-01T00:00:00Z", "affected": TWO["affected"]}
    for records in ((ONE, newer), (newer, ONE)):
        counted = build(path, [incoming("one", *records)])["one"]
        assert counted.records == 1
        assert counted.skips == {"there is a newer record of the same id": (1, "X-1")}
        assert found(path, "2.5.0") == ["X-1"]


def test_what_was_skipped_is_counted_with_an_example(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    bad = [{**ONE, "withdrawn": "2026-01-01T00:00:00Z"}] * 3
    build(path, [incoming("one", ONE, *bad, None, fixed_only=True)])
    with closing(open_advisories(path)) as advisories:
        (source,) = advisories.status().sources
    assert source.skipped == (("no JSON object", 1, "record 4"), ("withdrawn", 3, "record 1"))
    assert (source.name, source.format, source.origin, source.licence, source.fixed_only, source.records) == (
        "one", "osv", "one.zip", "CC0-1.0", True, 1,
    )  # fmt: skip


def test_nothing_changes_unless_all_is_well(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    build(path, [incoming("one", ONE)])
    before = path.read_bytes()
    with pytest.raises(
        RequestInvalidError, match=r"nothing is left of two.zip: no JSON object \(1, as record"
    ):
        build(path, [incoming("one", TWO), incoming("two", None)])
    with pytest.raises(RequestInvalidError, match="it holds no records"):
        build(path, [incoming("two")])
    with pytest.raises(NotFoundError, match="there is no source three"):
        build(path, [incoming("one", TWO)], drop=["three"])
    with pytest.raises(RequestInvalidError, match="two sources are called one"):
        build(path, [incoming("one", ONE), incoming("one", TWO)])

    def broken() -> object:
        yield Likelihood("CVE-2026-1", 0.1)
        yield Skip("x", "y")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        build(path, [Incoming("epss", "epss", "x", AS_OF, "", False, broken())])  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == [".a.sqlite.lock", "a.sqlite"]


def test_one_at_a_time_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    refused: list[str] = []

    def items() -> object:
        # Another asks while this one is at it.
        def other() -> None:
            try:
                build(path, [incoming("two", TWO)])
            except ConflictError as error:
                refused.append(error.message)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        yield Likelihood("CVE-2026-1", 0.1)

    build(path, [Incoming("epss", "epss", "x", AS_OF, "", False, items())])  # type: ignore[arg-type]
    assert refused == [f"{path} is being replaced by another process"]


def test_what_was_left_by_one_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    for name in (".a.sqlite.staged", ".a.sqlite.built"):
        (tmp_path / name).write_bytes(b"half")
    build(path, [incoming("one", ONE)])
    assert found(path) == ["X-1"]
    assert sorted(one.name for one in tmp_path.iterdir()) == [".a.sqlite.lock", "a.sqlite"]


def test_who_reads_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    build(path, [incoming("one", ONE)])
    with closing(open_advisories(path)) as advisories:
        assert advisories.is_current
        build(path, [incoming("one", TWO)])
        assert not advisories.is_current
        assert [one.id for one in match(advisories, [Thing("npm", "a", "1.0.0")])] == ["X-1"]
        path.unlink()
        assert not advisories.is_current
    with pytest.raises(NotFoundError, match="there is no file of advisories at"):
        open_advisories(path)


def test_a_broken_file_never_takes_the_place_of_a_good_one(tmp_path: Path) -> None:
    path, new = tmp_path / "a.sqlite", tmp_path / "new.sqlite"
    build(path, [incoming("one", ONE)])
    before = path.read_bytes()
    good = path.read_bytes()

    def refused(content: bytes, why: str) -> None:
        new.write_bytes(content)
        with pytest.raises(UnavailableError, match=why):
            swap(new, path)
        assert path.read_bytes() == before

    refused(b"", "is no file of advisories")
    refused(b"not SQLite" * 1000, "cannot be read as advisories")
    refused(good[: len(good) // 2], r"damaged|cannot be read")
    page = int.from_bytes(good[16:18], "big")
    for number in range(1, len(good) // page):
        damaged = bytearray(good)
        damaged[number * page : number * page + 64] = b"\xff" * 64
        refused(bytes(damaged), r"damaged|cannot be read|does not")

    def changed(*statements: str) -> bytes:
        new.write_bytes(good)
        with closing(sqlite3.connect(new)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        return new.read_bytes()

    refused(changed("PRAGMA user_version = 7"), "has schema 7, this version reads 1")
    refused(changed("PRAGMA application_id = 7"), "is no file of advisories")
    refused(changed("UPDATE source SET digest = 'sha256:00'"), "does not hold what it says")
    refused(changed("DROP TABLE affected"), "has other tables than")
    refused(changed("UPDATE meta SET key = 'other'"), "does not hold what it says")
    new.write_bytes(good)
    check(new)
    # The file that is there is looked at too, before sources are taken over from it.
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(UnavailableError):
        build(path, [incoming("two", TWO)])


def changed(path: Path, target: Path, *statements: str) -> Path:
    """A copy that somebody has laid hands on."""
    target.write_bytes(path.read_bytes())
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return target


def test_what_somebody_made_up_is_refused_and_said(tmp_path: Path) -> None:
    path, other = tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    build(path, [incoming("one", ONE)])
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i FROM n"
    for statements in (
        ("DROP TABLE exploited", f"CREATE VIEW exploited AS {endless}"),
        ("CREATE TABLE more (x)",),
        ("CREATE TRIGGER t AFTER INSERT ON skip BEGIN DELETE FROM meta; END",),
    ):
        with pytest.raises(UnavailableError, match="other tables than"):
            swap(changed(path, other, *statements), path)
    for statement in (
        "UPDATE affected SET spans = '[[1'",
        "UPDATE affected SET spans = '[1]'",
        "UPDATE advisory SET names = '{}'",
        "UPDATE source SET as_of = 'yesterday'",
        "UPDATE advisory SET published_at = 'never'",
        "UPDATE advisory SET published_at = '2026-01-01T00:00:00'",
        "UPDATE advisory SET id = CAST(id AS BLOB)",
        "UPDATE advisory SET kind = 'other'",
        "UPDATE advisory SET names = '[[7], []]'",
        "UPDATE affected SET spans = '[[1, 2, \"fixed\"]]'",
        "UPDATE affected SET severity = 'other'",
        "UPDATE affected SET score = 'much'",
        "UPDATE source SET records = 'many'",
        "UPDATE source SET origin = CAST(origin AS BLOB)",
    ):
        with pytest.raises(UnavailableError, match="cannot be read as advisories"):
            swap(changed(path, other, statement), path)
    assert found(path) == ["X-1"]
