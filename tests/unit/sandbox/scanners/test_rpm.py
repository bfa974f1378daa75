"""Packages of rpm, from databases that rpm and Berkeley DB made themselves."""

from __future__ import annotations

import hashlib
import io
import random
import sqlite3
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.scanners.content.digests import digests_of
from sandbox.scanners.facts import STATED, Facts, FoundPackage, Owned
from sandbox.scanners.packages.sqlitepages import Database
from tests.kit.looking import look, named, wanting
from tests.kit.rpms import build_rpms, header, headers, install, installed, make_bdb, make_ndb

FOLDER = "var/lib/rpm/"
LIBS = FoundPackage(
    "rpm",
    "openssl-libs",
    "1:1.1.1k-7.el8_6",
    "noarch",
    "openssl",
    licences=("OpenSSL and ASL 2.0",),
)
PERL = FoundPackage(
    "rpm", "openssl-perl", "1.1.1k-7.el8_6", "noarch", "openssl", licences=("OpenSSL and ASL 2.0",)
)
FILES = {
    Owned("usr/lib64/libcrypto.so.1.1", "openssl-libs", "5bbf5a52328e7439ae6e719dfe712200"),
    Owned("usr/lib64/openssl", "openssl-perl"),
    Owned("usr/lib64/openssl/misc.pl", "openssl-perl", "c193497a1a06b2c72230e6146ff47080"),
}


@pytest.fixture(scope="module")
def rpms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build_rpms(tmp_path_factory.mktemp("rpms"))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, rpms: list[Path]) -> Path:
    folder = install(tmp_path_factory.mktemp("root"), *rpms)
    form = "%{NAME} %{EVR} %{SOURCERPM}"
    assert installed(folder, form) == [
        "openssl-libs 1:1.1.1k-7.el8_6 openssl-1.1.1k-7.el8_6.src.rpm",
        "openssl-perl 0:1.1.1k-7.el8_6 openssl-1.1.1k-7.el8_6.src.rpm",
    ]
    return folder / "rpmdb.sqlite"


def both(facts: Facts) -> None:
    assert sorted(facts.packages, key=lambda package: package.name) == [LIBS, PERL]
    assert set(facts.owned) == FILES
    assert facts.incomplete == ()


def test_a_database_is_read_alone_and_with_an_empty_log(database: Path) -> None:
    data = database.read_bytes()
    assert data[18:20] == b"\2\2", "rpm no longer writes ahead: the test is of another case"
    both(look(FOLDER + "rpmdb.sqlite", data))
    both(look(FOLDER + "rpmdb.sqlite", data, partner=b""))
    both(look("usr/lib/sysimage/rpm/rpmdb.sqlite", data))


def test_what_packages_of_today_state_of_their_files_is_kept(tmp_path: Path) -> None:
    folder = install(tmp_path / "root", *build_rpms(tmp_path, digests=8))
    facts = look(FOLDER + "rpmdb.sqlite", (folder / "rpmdb.sqlite").read_bytes())
    stated = {one.path: one.digest for one in facts.owned}
    content = hashlib.sha256(b"one\n").hexdigest()
    assert stated["usr/lib64/libcrypto.so.1.1"] == content[:STATED]
    assert content[:STATED] in digests_of(io.BytesIO(b"one\n"))


def test_what_is_only_in_the_log_is_installed(tmp_path: Path, rpms: list[Path], database: Path) -> None:
    folder = install(tmp_path / "root", rpms[0])
    second = next(blob for blob in headers(database) if b"openssl-perl" in blob)
    writer = sqlite3.connect(folder / "rpmdb.sqlite", isolation_level=None)
    try:
        writer.execute("pragma wal_autocheckpoint = 0")
        writer.execute("insert into Packages (blob) values (?)", (second,))
        data = (folder / "rpmdb.sqlite").read_bytes()
        log = (folder / "rpmdb.sqlite-wal").read_bytes()
    finally:
        writer.close()
    both(look(FOLDER + "rpmdb.sqlite", data, partner=log))
    assert [name for name, _ in named(look(FOLDER + "rpmdb.sqlite", data, partner=b""))] == ["openssl-libs"]
    # A log that was cut off before its first commit says nothing, as for SQLite itself.
    assert look(FOLDER + "rpmdb.sqlite", data, partner=log[:4000]).packages == (LIBS,)
    assert look(FOLDER + "rpmdb.sqlite-wal", log, partner=data) == Facts()
    assert look(FOLDER + "rpmdb.sqlite-wal", b"", partner=None) == Facts()
    assert look(FOLDER + "rpmdb.sqlite-wal", log, partner=None).incomplete == (
        "its database lies in another layer, and was read without it",
    )


@pytest.mark.parametrize("order", [1234, 4321])
@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_a_hash_table_of_berkeley_db_is_read(
    tmp_path: Path, database: Path, page_size: int, order: int
) -> None:
    make_bdb(tmp_path / "Packages", headers(database), page_size=page_size, order=order)
    both(look(FOLDER + "Packages", (tmp_path / "Packages").read_bytes()))
    if order == 1234:
        listed = installed(tmp_path, "%{NAME}", backend="bdb_ro")
        assert listed == ["openssl-libs", "openssl-perl"]


def test_the_database_of_suse_is_read(database: Path) -> None:
    both(look(FOLDER + "Packages.db", make_ndb(headers(database))))
    both(look("usr/lib/sysimage/rpm/Packages.db", make_ndb(headers(database))))


def test_a_list_without_a_database_is_read() -> None:
    line = (
        "zlib\t1.2.13-2.cm2\t1\t2\tMicrosoft Corporation\t(none)\t9\tx86_64\t0\tzlib-1.2.13-2.cm2.src.rpm\n"
    )
    with_epoch = line.replace("x86_64\t0", "x86_64\t2").replace("zlib\t", "libz\t")
    assert look("var/lib/rpmmanifest/container-manifest-2", (line + with_epoch).encode()).packages == (
        FoundPackage("rpm", "zlib", "1.2.13-2.cm2", "x86_64", "zlib"),
        FoundPackage("rpm", "libz", "2:1.2.13-2.cm2", "x86_64", "zlib"),
    )
    assert look("var/lib/rpmmanifest/container-manifest-2", b"zlib\n").incomplete == (
        "a line of the list of packages is none",
    )


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "a header in the rpm database is cut off"),
        (struct.pack(">II", 9, 9) + b"x", "a header in the rpm database cannot be"),
        (header(), "a package in the rpm database has no name"),
        (
            header((1000, 6, 1, b"x\0"), (1117, 8, 2, b"one\0")),
            "names in a header of the rpm database lie outside of it",
        ),
        (
            header((1000, 6, 1, b"x\0"), (1003, 4, 99, b"")),
            "numbers in a header of the rpm database lie outside of it",
        ),
        (
            header((1000, 6, 1, b"x\0"), (1117, 8, 1, b"a\0"), (1116, 4, 1, b"\0\0\0\1")),
            "the list of files in a header of the rpm database cannot be",
        ),
    ],
)
def test_a_header_that_lies_is_named_and_hides_no_other(blob: bytes, reason: str) -> None:
    fine = header((1000, 6, 1, b"fine\0"), (1001, 6, 1, b"1\0"), (1002, 6, 1, b"2\0"))
    key = header((1000, 6, 1, b"gpg-pubkey\0"))
    facts = look(FOLDER + "Packages.db", make_ndb([blob, key, fine]))
    assert facts.incomplete == (f"{reason} (1 of its packages)",)
    assert ("fine", "1-2") in named(facts)
    assert "gpg-pubkey" not in [name for name, _ in named(facts)]


def test_files_that_are_no_database_or_broken_off_are_named_never_taken_for_empty(
    database: Path, tmp_path: Path
) -> None:
    make_bdb(tmp_path / "Packages", headers(database))
    whole = {
        "rpmdb.sqlite": database.read_bytes(),
        "Packages": (tmp_path / "Packages").read_bytes(),
        "Packages.db": make_ndb(headers(database)),
    }
    for name, data in whole.items():
        for wrong in (b"", b"x" * 5000, bytes(5000), data[:100], data[: len(data) // 2], data[:4100]):
            facts = look(FOLDER + name, wrong)
            assert facts.incomplete, (name, len(wrong))


def test_a_file_that_leads_to_the_same_place_again_and_again_ends() -> None:
    one = make_ndb([header((1000, 6, 1, b"x\0")) + bytes(4000)])
    slot = one[32:48]
    assert look(FOLDER + "Packages.db", one[:32] + slot * 254 + one[4096:]).incomplete == (
        "headers in the rpm database lie in the same place",
    )
    with sqlite3.connect(":memory:") as made:
        made.execute("create table Packages (hnum integer primary key, blob blob not null)")
        made.executemany("insert into Packages (blob) values (?)", [(bytes(3000),)] * 20)
        data = bytearray(made.serialize())
    root = 4096
    assert data[root] == 5, "the table has one page only"
    data[root + 8 : root + 12] = (2).to_bytes(4, "big")
    assert look(FOLDER + "rpmdb.sqlite", bytes(data)).incomplete == (
        "a tree of the database turns back on itself",
    )


def test_only_the_databases_are_looked_at() -> None:
    assert wanting(FOLDER + "rpmdb.sqlite") == wanting(FOLDER + "rpmdb.sqlite-wal") == ["rpm-sqlite"]
    assert wanting(FOLDER + "Packages") == wanting("usr/share/rpm/Packages.db") == ["rpm"]
    assert wanting(FOLDER + "Name") == wanting("srv/rpmdb.sqlite") == []


@settings(max_examples=60)
@given(
    page_size=st.sampled_from([512, 1024, 4096, 65_536]),
    sizes=st.lists(st.integers(0, 20_000), max_size=40),
    removed=st.sets(st.integers(1, 40)),
    seed=st.integers(),
)
def test_rows_are_those_that_sqlite_reads(
    page_size: int, sizes: list[int], removed: set[int], seed: int
) -> None:
    blobs = [random.Random(seed + at).randbytes(size) for at, size in enumerate(sizes)]
    with sqlite3.connect(":memory:") as made:
        made.execute(f"pragma page_size = {page_size}")
        made.execute("create table other (a)")
        made.execute("create table Packages (hnum integer primary key autoincrement, blob blob not null)")
        made.executemany("insert into Packages (blob) values (?)", [(blob,) for blob in blobs])
        made.executemany("delete from Packages where hnum = ?", [(number,) for number in removed])
        expected = [blob for (blob,) in made.execute("select blob from Packages order by hnum")]
        data = made.serialize()
    assert [row[1] for row in Database(io.BytesIO(data), None).rows("Packages")] == expected


def test_a_log_is_applied_as_sqlite_does_after_each_of_many_commits(tmp_path: Path) -> None:
    file = tmp_path / "some.sqlite"
    choice = random.Random(7)
    writer = sqlite3.connect(file, isolation_level=None)
    try:
        writer.execute("pragma journal_mode = wal")
        writer.execute("pragma wal_autocheckpoint = 0")
        writer.execute("create table Packages (hnum integer primary key, blob blob)")
        for number in range(60):
            writer.execute("begin")
            writer.execute(
                "insert into Packages (blob) values (?)", (choice.randbytes(choice.randrange(9000)),)
            )
            if number % 3 == 0:
                writer.execute("delete from Packages where hnum = ?", (choice.randrange(1, number + 2),))
            writer.execute("commit")
            if number % 20 == 19:
                writer.execute("pragma wal_checkpoint(passive)")
            expected = [blob for (blob,) in writer.execute("select blob from Packages order by hnum")]
            log = io.BytesIO((tmp_path / "some.sqlite-wal").read_bytes())
            data = Database(io.BytesIO(file.read_bytes()), log)
            assert [row[1] for row in data.rows("Packages")] == expected
    finally:
        writer.close()
