"""An image's view from its layers: whiteouts, opaque folders, what replaces what, links, owners."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO

from sandbox.images.layerstream import LayerReader
from sandbox.scanners.aliases import ALIASES_MAX
from sandbox.scanners.content.files import FileRules
from sandbox.scanners.document import Subject, make_scan
from sandbox.scanners.facts import NAMED, Alias, Module
from sandbox.scanners.lines import Both, LineFile
from sandbox.scanners.merge import AT_PLACE_MAX, FACTS_MAX, GAPS_MAX, LINKS_MAX, View, merge
from sandbox.scanners.packages import MODULES as PACKAGE_MODULES
from sandbox.scanners.spool import IN_MEMORY_BYTES, Spool
from sandbox.scanners.walk import Walk, WalkLimits
from tests.kit.images import (
    Member,
    device,
    file,
    folder,
    hardlink,
    make_layer,
    opaque,
    symlink,
    whiteout,
    xattrs,
)
from tests.kit.rpms import header
from tests.kit.scanmodules import MODULES


def walked(
    *members: Member,
    limits: WalkLimits | None = None,
    modules: Sequence[Module] = MODULES,
    aliases: Sequence[Alias] = (),
) -> LineFile:
    """What the modules tell of one layer, read in this process."""
    out: BinaryIO = io.BytesIO()
    with tempfile.TemporaryFile() as blob, tempfile.TemporaryFile() as spool:
        blob.write(make_layer(*members).blob)
        blob.flush()

        def read() -> LayerReader:
            blob.seek(0)
            return LayerReader(blob.fileno(), algorithm="sha256", max_bytes=1 << 30)

        Walk(modules, read, Spool(spool.fileno()), out, limits or WalkLimits(), aliases=aliases).run()
    return LineFile(out)


def seen(*layers: Sequence[Member]) -> View:
    return merge([walked(*members) for members in layers], MODULES)


def packages(view: View) -> set[tuple[str, str, int]]:
    return {(p.name, told.path, told.layer) for told in view.told for p in told.packages}


def secrets(view: View) -> set[tuple[str, int, int | None]]:
    return {(told.path, told.layer, told.deleted_in_layer) for told in view.told if told.things}


def gaps(view: View) -> set[tuple[str, str, str]]:
    return {(gap.module, gap.path, gap.reason) for gap in view.gaps}


ONE, TWO, KEY = b"package one 1\n", b"package two 2\n", b"secret key\n"


def test_what_upper_layers_remove_or_replace_is_no_longer_seen() -> None:
    base = [
        *(
            file(f"{where}/a.txt", ONE)
            for where in ("kept", "gone", "opaque", "file", "link", "again", "all/x")
        ),
        file("alone.txt", ONE),
        file("mixed/below.txt", ONE),
    ]
    upper = [
        whiteout("gone/a.txt"),
        opaque("opaque"),
        file("file"),
        symlink("link", "kept"),
        file("again/a.txt", TWO),
        whiteout("all"),
        folder("alone.txt"),
        file("mixed/above.txt", TWO),
    ]
    view = seen(base, upper)
    assert packages(view) == {
        ("one", "kept/a.txt", 0),
        ("two", "again/a.txt", 1),
        ("one", "mixed/below.txt", 0),
        ("two", "mixed/above.txt", 1),
    }
    assert not view.gaps


def test_whiteouts_hide_the_layers_below_and_never_their_own() -> None:
    view = seen([file("d/a.txt", ONE)], [file("d/b.txt", TWO), opaque("d"), whiteout("d/b.txt")])
    assert packages(view) == {("two", "d/b.txt", 1)}
    assert packages(seen([file("a.txt", ONE)], [opaque(".")])) == set()


def test_removed_secrets_stay_with_the_layer_that_removed_them() -> None:
    view = seen(
        [file("root/id.txt", KEY + ONE), file("opt/t.txt", KEY), file("kept.txt", KEY)],
        [whiteout("root/id.txt")],
        [opaque("opt"), file("root/id.txt", TWO)],
    )
    assert secrets(view) == {("root/id.txt", 0, 1), ("opt/t.txt", 0, 2), ("kept.txt", 0, None)}
    assert packages(view) == {("two", "root/id.txt", 2)}


def test_a_name_twice_in_one_layer_is_its_last_one() -> None:
    view = seen([file("a.txt", KEY + ONE), file("a.txt", TWO)])
    assert packages(view) == {("two", "a.txt", 0)}
    assert secrets(view) == {("a.txt", 0, 0)}


def test_layers_write_through_links_of_those_below() -> None:
    base = [folder("usr"), symlink("lib", "usr/lib"), file("usr/lib/a.txt", ONE), file("usr/lib/b.txt", ONE)]
    view = seen(base, [file("lib/a.txt", TWO), whiteout("lib/b.txt")])
    assert packages(view) == {("two", "usr/lib/a.txt", 1)}
    # A folder takes the place of the link, and what it led to stays.
    view = seen(base, [folder("lib"), file("lib/a.txt", TWO)])
    assert packages(view) == {
        ("one", "usr/lib/a.txt", 0),
        ("one", "usr/lib/b.txt", 0),
        ("two", "lib/a.txt", 1),
    }


def test_a_hard_link_says_what_its_file_says() -> None:
    view = seen(
        [file("a.txt", ONE), hardlink("b.txt", "a.txt")],
        [whiteout("a.txt"), hardlink("c.txt", "b.txt")],
    )
    assert packages(view) == {("one", "b.txt", 0), ("one", "c.txt", 1)}


def test_a_hard_link_whose_name_says_more_is_read_again() -> None:
    view = seen([file("plain", ONE), hardlink("a.txt", "plain"), hardlink("b.txt", "plain")])
    assert packages(view) == {("one", "a.txt", 0), ("one", "b.txt", 0)}
    view = seen([file("plain", ONE)], [hardlink("a.txt", "plain")])
    assert gaps(view) == {("words", "a.txt", "is a hard link to plain of a layer below")}


def test_a_link_where_a_module_looks_is_a_gap_unless_what_it_leads_to_was_looked_at() -> None:
    view = seen([file("real.txt", ONE), symlink("a.txt", "real.txt"), symlink("b.txt", "/etc/passwd")])
    assert packages(view) == {("one", "real.txt", 0)}
    said = "is a symbolic link to what was not looked at under its own name"
    assert gaps(view) == {("words", "b.txt", said)}
    view = seen([symlink("b.txt", "/etc/passwd")], [file("b.txt", TWO)])
    assert not view.gaps
    assert packages(view) == {("two", "b.txt", 1)}


DIFF_ID = "sha256:" + "0" * 64
BASH = ((1000, 6, 1, b"bash\0"), (1001, 6, 1, b"5.1\0"), (1002, 6, 1, b"1\0"))
STATUS = b"Package: %s\nStatus: install ok installed\nVersion: 1\n"


def followed(*layers: Sequence[Member]) -> View:
    """The view of layers that are read again for what lies behind links, as a scan does."""
    first = [walked(*members, modules=PACKAGE_MODULES) for members in layers]
    aliases = merge(first, PACKAGE_MODULES).aliases
    named = [module for module in PACKAGE_MODULES if module.name in NAMED]
    if not aliases:
        return merge(first, PACKAGE_MODULES)
    second = [walked(*members, modules=named, aliases=aliases) for members in layers]
    view = merge([Both(*both) for both in zip(first, second, strict=True)], PACKAGE_MODULES, read=aliases)
    assert view.aliases == ()
    return view


def test_a_database_of_packages_behind_a_link_of_a_folder_is_read() -> None:
    status = file("data/lib/dpkg/status", STATUS % b"a")
    for links in (
        [symlink("var/lib", "/data/lib")],
        [symlink("var/lib", "../data/lib")],
        [symlink("var", "data")],
        [symlink("var/lib/dpkg", "../../../../data/lib/dpkg")],
        [symlink("var/lib", "/x/y"), symlink("x", "z"), symlink("z/y", "/data/lib")],
        [symlink("var/lib/dpkg/status", "/data/lib/dpkg/status")],
    ):
        for layers in ([[status, *links]], [[*links, status]], [[status], links], [links, [status]]):
            view = followed(*layers)
            number = len(layers) - 1 if status in layers[-1] else 0
            assert packages(view) == {("a", "data/lib/dpkg/status", number)}, layers
            assert not gaps(view)


def test_what_distroless_has_in_place_of_a_database_is_read_behind_a_link() -> None:
    stanza = [file(f"usr/share/pkgs/{name}", STATUS % name.encode()) for name in ("base", "tzdata")]
    listed = file("opt/info/base.list", b"/.\n/usr\n/usr/lib/x.jar\n")
    links = [symlink("var/lib/dpkg/status.d", "/usr/share/pkgs"), symlink("var/lib/dpkg/info", "/opt/info")]
    here = {("base", "usr/share/pkgs/base", 0), ("tzdata", "usr/share/pkgs/tzdata", 0)}
    view = followed([*stanza, listed], links)
    assert packages(view) == here
    # What later layers do to the files, they do where these are, or through the link; and to the link.
    view = followed([*stanza, *links], [whiteout("usr/share/pkgs/base")])
    assert packages(view) == {("tzdata", "usr/share/pkgs/tzdata", 0)}
    view = followed([*stanza, *links], [file("var/lib/dpkg/status.d/base", STATUS % b"newer")])
    assert packages(view) == {("tzdata", "usr/share/pkgs/tzdata", 0), ("newer", "usr/share/pkgs/base", 1)}
    assert packages(followed([*stanza, *links], [whiteout("var/lib/dpkg/status.d")])) == set()
    # The same file twice in a layer: the last one is what the image has.
    again = file("usr/share/pkgs/base", STATUS % b"last")
    view = followed([*stanza, *links, again])
    assert packages(view) == {("last", "usr/share/pkgs/base", 0), ("tzdata", "usr/share/pkgs/tzdata", 0)}
    # The layer has another name for the folder, that leads there through a link below it.
    view = followed([symlink("share", "usr/share"), *links], [file("share/pkgs/base", STATUS % b"base")])
    assert packages(view) == {("base", "usr/share/pkgs/base", 1)}
    # One of the files is a link itself.
    one = symlink("var/lib/dpkg/status.d/base", "/usr/share/pkgs/base")
    assert packages(followed([*stanza, one])) == {("base", "usr/share/pkgs/base", 0)}


def test_the_databases_of_apk_and_rpm_and_the_name_of_the_system_are_read_behind_links() -> None:
    view = followed(
        [
            symlink("lib/apk/db", "/opt/apk"),
            file("opt/apk/installed", b"P:musl\nV:1\n\n"),
            symlink("etc/os-release", "../opt/release"),
            file("opt/release", b"ID=alpine\nVERSION_ID=3.20.3\n"),
        ]
    )
    assert packages(view) == {("musl", "opt/apk/installed", 0)}
    document = make_scan(view, Subject("sha256:" + "0" * 64, "linux/amd64", (DIFF_ID,), ("",)), scanner="s")
    assert document.system is not None
    assert [one.ecosystem for one in document.packages] == ["Alpine:v3.20"]
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
        database.execute("INSERT INTO Packages VALUES (1, ?)", (header(*BASH),))
        raw = database.serialize()
    rpm = [file("opt/rpm/rpmdb.sqlite", raw), symlink("var/lib/rpm", "/opt/rpm")]
    assert (
        packages(followed(rpm))
        == packages(followed(rpm[:1], rpm[1:]))
        == {("bash", "opt/rpm/rpmdb.sqlite", 0)}
    )
    # Where its log lies a link of the file itself does not tell.
    view = followed([rpm[0], symlink("var/lib/rpm/rpmdb.sqlite", "/opt/rpm/rpmdb.sqlite")])
    said = "is a symbolic link to what was not looked at under its own name"
    assert gaps(view) == {("rpm-sqlite", "var/lib/rpm/rpmdb.sqlite", said)}


def test_what_cannot_be_followed_is_a_gap_and_leads_out_of_no_image() -> None:
    stanza = file("pkgs/a", STATUS % b"a")
    link = symlink("var/lib/dpkg/status.d", "/pkgs")
    inside = [symlink("pkgs/b", "/c"), file("c", STATUS % b"c"), hardlink("pkgs/d", "c")]
    said = "is a link in a folder behind a link, and is not followed"
    view = followed([stanza, link, *inside])
    assert packages(view) == {("a", "pkgs/a", 0)}
    assert gaps(view) == {("dpkg", "pkgs/b", said), ("dpkg", "pkgs/d", said)}
    view = followed([stanza, link, hardlink("pkgs/d", "./pkgs/a")])
    assert packages(view) == {("a", "pkgs/a", 0), ("a", "pkgs/d", 0)}
    assert not gaps(view)
    # To nothing, to what is no database, in a circle: without one an image looks as if it had no packages.
    vain = "is a symbolic link to nothing that tells anything"
    for place, end in (
        ("var/lib/dpkg/status.d", "/nowhere"),
        ("var/lib/dpkg/status", "/etc/passwd"),
        ("var/lib/dpkg/status", "/nowhere"),
    ):
        view = followed([symlink(place, end), file("etc/passwd", b"root:x:0:0::/:\n")])
        assert not packages(view)
        assert gaps(view) == {("dpkg", place, vain)}
    view = followed([symlink("var/lib/dpkg/status.d", "status.d")])
    assert gaps(view) == {
        ("", "var/lib/dpkg/status.d", "is a symbolic link that leads in a circle, or too far")
    }
    # Where a folder above is one, nobody says that there is a database.
    assert not gaps(followed([symlink("var/lib", "/data/lib"), file("data/x")]))
    # Out of the image and to its root: what is there is what the image has there.
    assert not followed([symlink("var/lib", "/var/lib")]).told
    out = symlink("var/lib/dpkg/status.d", "../../../../../../pkgs")
    assert packages(followed([stanza, out])) == {("a", "pkgs/a", 0)}
    assert packages(followed([file("a", STATUS % b"a"), symlink("var/lib/dpkg/status.d", "/")])) == {
        ("a", "a", 0)
    }
    # Some have two names, and were read.
    assert not followed([symlink("lib", "usr/lib"), file("usr/lib/apk/db/installed")]).gaps
    assert not followed([symlink("var/lib/rpm", "/usr/share/rpm"), file("usr/share/rpm/Packages.db")]).aliases
    # There is an end to how many are followed.
    many = [symlink(f"var/lib/dpkg/status.d/{number}", f"/x/{number}") for number in range(ALIASES_MAX + 1)]
    assert gaps(followed(many)) == {
        ("dpkg", one.name, "lies behind a link, and there are more such links than are followed")
        for one in many
    }


def test_modes_capabilities_and_devices_come_from_the_headers() -> None:
    capable = xattrs(security__capability="\x01")
    view = seen(
        [
            file("su", b"x", mode=0o4755),
            file("ping", b"", mode=0o755, uid=7, gid=8, pax=capable),
            device("null", "c", 1, 3),
        ]
    )
    titles = {told.path: told.things[0].title for told in view.told}
    assert titles == {
        "su": "file 4755 0:0 False 1",
        "ping": "file 755 7:8 True 0",
        "null": "other 644 0:0 False 0",
    }


def test_files_that_belong_together_are_handed_over_together() -> None:
    large = b"y" * (IN_MEMORY_BYTES + 1)
    after = [file("main.db", b"new"), file("big.txt", large), file("main.db-wal", b"log")]
    for members in (after, after[::-1]):
        assert {told.things[0].title for told in seen(members).told} == {"new log"}
    alone = seen([file("main.db", b"new")], [file("main.db-wal", b"log")])
    assert {told.things[0].title for told in alone.told} == {"new none"}


def test_owners_and_unchanged_files() -> None:
    md5 = hashlib.md5(KEY, usedforsecurity=False).hexdigest()
    lists = "".join(
        f"owned {path} distro {md5}\n"
        for path in ("own.txt", "changed.txt", "lib/linked.txt", "usr/lib/py.txt", "away.txt")
    )
    view = seen(
        [
            symlink("lib", "usr/lib"),
            file("lists.txt", lists.encode()),
            file("own.txt", KEY),
            file("changed.txt", KEY + KEY),
            file("usr/lib/linked.txt", KEY),
            file("usr/lib/py.txt", ONE),
            file("mine.txt", KEY + TWO),
            file("away.txt", KEY),
        ],
        [whiteout("away.txt"), file("db.txt", b"system debian 12\n")],
    )
    subject = Subject(
        "sha256:" + "0" * 64, "linux/amd64", ("sha256:" + "a" * 64, "sha256:" + "b" * 64), ("", "RUN x")
    )
    scan = make_scan(view, subject, scanner="test 1")
    severities = {one.where: one.severity for one in scan.found}
    assert severities == {
        "own.txt": "info",
        "changed.txt": "high",
        "usr/lib/linked.txt": "info",
        "mine.txt": "high",
        "away.txt": "high",
    }
    assert {one.name: one.owned_by for one in scan.packages} == {"one": "distro", "two": None}
    assert scan.layers[1].created_by == "RUN x"
    # A database that is gone owns nothing.
    gone = seen([file("lists.txt", lists.encode()), file("own.txt", KEY)], [whiteout("lists.txt")])
    assert {one.severity for one in make_scan(gone, subject, scanner="test 1").found} == {"high"}


def test_what_sets_the_user_is_the_distributions_only_as_it_packed_it() -> None:
    def packed(**programs: bytes) -> Member:
        sums = (
            f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  usr/bin/{name}\n"
            for name, data in programs.items()
        )
        return file("var/lib/dpkg/info/p.md5sums", "".join(sums).encode())

    def severities(*layers: Sequence[Member]) -> dict[str, str]:
        modules = (*PACKAGE_MODULES, FileRules())
        view = merge([walked(*members, modules=modules) for members in layers], modules)
        diff_ids = tuple(f"sha256:{number:064}" for number, _ in enumerate(layers))
        subject = Subject("sha256:" + "0" * 64, "linux/amd64", diff_ids, ("",) * len(layers))
        found = make_scan(view, subject, scanner="test 1").found
        return {one.where: one.severity for one in found if one.rule == "ST-SETUID"}

    base = [
        packed(su=b"1", less_known=b"2", dash=b"3"),
        file("usr/bin/su", b"1", 0o4755),
        file("usr/bin/less_known", b"2", 0o755),
        file("usr/bin/dash", b"3", 0o4755),
    ]
    # A shell is one that nobody packs so, whatever the layer.
    assert severities(base) == {"usr/bin/su": "info", "usr/bin/dash": "high"}
    changed = [file("usr/bin/less_known", b"2", 0o4755)]
    assert severities(base, changed)["usr/bin/less_known"] == "high"
    # With an upgrade the package comes as well.
    upgraded = [packed(su=b"4"), file("usr/bin/su", b"4", 0o4755)]
    assert severities(base, upgraded)["usr/bin/su"] == "info"
    listed = [file("var/lib/dpkg/info/p.list", b"/usr/bin/su\n/usr/bin/less_known\n"), *changed]
    assert severities(base, listed) == {
        "usr/bin/su": "info",
        "usr/bin/dash": "high",
        "usr/bin/less_known": "high",
    }


def test_a_package_came_with_the_layer_that_brought_it_however_often_its_database_is_written() -> None:
    three = b"package three 3\n"
    view = seen(
        [file("db.txt", ONE + three)],
        [file("db.txt", ONE + TWO + three)],
        [whiteout("db.txt"), file("db.txt", b"package one 1.1\n" + TWO + three)],
        [file("else.txt", TWO)],
    )
    subject = Subject("sha256:" + "0" * 64, "linux/amd64", ("sha256:" + "a" * 64,) * 4, ("",) * 4)
    scan = make_scan(view, subject, scanner="test 1")
    assert {(one.name, one.version, one.path, one.layer) for one in scan.packages} == {
        ("one", "1.1", "db.txt", 2),
        ("two", "2", "db.txt", 1),
        ("three", "3", "db.txt", 0),
        ("two", "2", "else.txt", 3),
    }
    # What was away for a layer is new again.
    view = seen([file("db.txt", ONE)], [whiteout("db.txt")], [file("db.txt", ONE)])
    assert [told.since for told in view.told] == [{}]


def test_names_that_are_no_text_are_written_as_they_can_be() -> None:
    view = seen([file("bad\udcff.txt", KEY + ONE)])
    scan = make_scan(
        view, Subject("sha256:" + "c" * 64, "linux/amd64", ("sha256:" + "a" * 64,), ("",)), scanner="test"
    )
    assert [one.where for one in scan.found] == ["bad%FF.txt"]
    assert scan.model_dump_json()


def test_what_is_too_large_or_too_much_is_a_gap() -> None:
    lines = walked(
        file("a.txt", b"x" * 100),
        file("b.txt", b"gap why\n"),
        *(file(f"n{n}.txt", b"package n 1\n") for n in range(50)),
        limits=replace(WalkLimits(), file_bytes=50, result_bytes=1500),
    )
    view = merge([lines], MODULES)
    assert ("words", "a.txt", "has 100 bytes; at most 50 are looked at") in gaps(view)
    assert ("words", "b.txt", "why") in gaps(view)
    assert any(gap.reason.endswith("lines of facts did not fit") for gap in view.gaps)
    too_many = merge([walked(file("a"), file("b"), limits=replace(WalkLimits(), entries=1))], MODULES)
    assert {gap.reason for gap in too_many.gaps} == {"the layer cannot be read: has more than 1 entries"}


def test_where_there_is_no_room_for_anything_that_is_said() -> None:
    lines = walked(file("a.txt", ONE), limits=replace(WalkLimits(), result_bytes=1))
    assert gaps(merge([lines], MODULES)) == {("", "", "1 lines of facts did not fit")}


def test_hard_links_to_each_other_say_everything_once() -> None:
    links = [hardlink("a", "b"), hardlink("b", "a")] * 10
    view = seen([file("x.txt", ONE), hardlink("b", "x.txt"), *links])
    assert sorted(told.path for told in view.told) == ["a", "b", "x.txt"]
    assert not view.gaps


def test_a_hard_link_hides_nothing_that_came_under_another_name() -> None:
    members = [symlink("l", "d"), file("x.txt", ONE), hardlink("d/b", "x.txt"), file("l/b.txt", KEY + ONE)]
    view = seen([*members, hardlink("d/b.txt", "x.txt")])
    assert secrets(view) == {("d/b.txt", 0, None)}
    files = [file(f"{n}.txt", b"package p%d 1" % n) for n in range(AT_PLACE_MAX + 1)]
    many = seen([*files, *(hardlink("same", f"{n}.txt") for n in range(AT_PLACE_MAX + 1))])
    assert gaps(many) == {("", "", f"more than {AT_PLACE_MAX} things are told of one name")}


def test_an_image_tells_no_more_than_one_document_holds() -> None:
    many = b"".join(b"package p%d 1\n" % n for n in range(2000))
    links = [hardlink(f"l{n}", "a.txt") for n in range(100)]
    view = seen([file("a.txt", many), *links])
    assert sum(1 + len(told.packages) for told in view.told) <= FACTS_MAX
    assert gaps(view) == {("", "", f"its layers tell more than {FACTS_MAX} facts of one sort")}
    # What there is too much of does not take the place of the rest.
    assert secrets(seen([file("a.txt", many), *links], [file("b.txt", KEY)])) == {("b.txt", 1, None)}


class Lines:
    """A layer that says these things."""

    def __init__(self, *records: Mapping[str, object]) -> None:
        self._records = records

    def records(self) -> Iterable[Mapping[str, object]]:
        return self._records

    def owned(self) -> Iterable[tuple[str, str, str, str]]:
        return ()

    def digests(self) -> tuple[bytes, bytes]:
        return b"", b""


def test_an_image_of_many_layers_has_no_more_links_and_gaps_than_one() -> None:
    links = [{"link": f"d/{n}", "to": "x"} for n in range(LINKS_MAX // 2 + 1)]
    over = [{"incomplete": "no", "module": "m", "path": f"{n}"} for n in range(GAPS_MAX + 1)]
    view = merge([Lines(*links), Lines(*links), Lines(*over)], MODULES)
    assert (
        view.gaps[0].reason == f"its layers have more than {LINKS_MAX} links; further ones are not followed"
    )
    assert view.gaps[0].layer == 1
    assert len(view.gaps) == GAPS_MAX + 1


def test_layers_there_was_no_time_for_are_a_gap() -> None:
    turns = iter([False, True])
    view = merge(
        [walked(file("a.txt", ONE)), walked(file("b.txt", TWO))], MODULES, is_late=lambda: next(turns)
    )
    assert packages(view) == {("one", "a.txt", 0)}
    assert [(gap.layer, gap.reason) for gap in view.gaps] == [
        (1, "there was no time left to put its layers together")
    ]


def test_an_end_that_lies_is_none() -> None:
    """Whoever took the child over writes what he likes: nothing is made room for that is not there."""
    whole = walked(file("a.txt", ONE))
    assert whole.end() is not None
    for folders, others in ((10**30, 0), (0, 10**12), (-1, 1), (1, 0)):
        end = {"diff_id": "", "lasting": True, "folders": folders, "others": others}
        lying = LineFile(io.BytesIO(json.dumps({"end": end}).encode() + b"\n"))
        assert lying.end() is None
        assert lying.digests() == (b"", b"")
        assert merge([lying, whole], MODULES).told
