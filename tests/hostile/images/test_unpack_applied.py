"""What layers come to when they are applied, seen through a mounted root file system."""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

import pytest

from tests.hostile.images.conftest import Mounted, Prepare
from tests.kit.images import (
    Compression,
    Layer,
    Member,
    device,
    digest_of,
    fifo,
    file,
    folder,
    hardlink,
    layer_of,
    make_image,
    make_layer,
    make_tar,
    opaque,
    symlink,
    whiteout,
    xattrs,
)

COMMAND = {"Cmd": ["/x"]}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all of these: the first layer of most is the same."""
    path = tmp_path_factory.mktemp("state")
    (path / "runs").mkdir()
    return path


def listing(root: Path) -> dict[str, str]:
    """Every path of a root with its kind or content; nothing is followed."""
    found = {}
    # Not rglob: before Python 3.11.4 it fails at a link whose target no file system could hold.
    paths = [Path(parent, name) for parent, folders, files in os.walk(root) for name in (*folders, *files)]
    for path in sorted(paths):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = path.read_text()
    return found


BASE = [
    folder("usr"),
    folder("usr/lib"),
    file("usr/lib/old", b"old"),
    symlink("lib", "usr/lib"),
    folder("etc"),
    file("etc/a", b"lower a"),
    file("etc/b", b"lower b"),
    folder("etc/d"),
    file("etc/d/x", b"lower x"),
    file("etc/d/y", b"lower y"),
]
BASE_LISTING = {
    "usr": "folder",
    "usr/lib": "folder",
    "usr/lib/old": "old",
    "lib": "-> usr/lib",
    "etc": "folder",
    "etc/a": "lower a",
    "etc/b": "lower b",
    "etc/d": "folder",
    "etc/d/x": "lower x",
    "etc/d/y": "lower y",
}

# What a second layer holds, what it adds or changes, what it removes.
CASES: dict[str, tuple[list[Member], dict[str, str], set[str]]] = {
    "nothing": ([], {}, set()),
    "through a lower link": ([file("lib/new", b"new")], {"usr/lib/new": "new"}, set()),
    "through a lower link, deeper": (
        [folder("lib/sub"), file("lib/sub/new", b"new")],
        {"usr/lib/sub": "folder", "usr/lib/sub/new": "new"},
        set(),
    ),
    "whiteout through a lower link": ([whiteout("lib/old")], {}, {"usr/lib/old"}),
    "hard link through a lower link": (
        [hardlink("copy", "lib/old")],
        {"copy": "old"},
        set(),
    ),
    "whiteout of a file": ([whiteout("etc/a")], {}, {"etc/a"}),
    "whiteout of a folder": ([whiteout("etc/d")], {}, {"etc/d", "etc/d/x", "etc/d/y"}),
    "whiteout of a link": ([whiteout("lib")], {}, {"lib"}),
    "whiteout of nothing": ([whiteout("etc/nothing"), whiteout("no/where")], {}, set()),
    "whiteout and the same again": ([whiteout("etc/a"), file("etc/a", b"new")], {"etc/a": "new"}, set()),
    "the same and then its whiteout": ([file("etc/a", b"new"), whiteout("etc/a")], {"etc/a": "new"}, set()),
    "folder again, whiteout after": (
        [folder("etc/d"), file("etc/d/new", b"new"), whiteout("etc/d")],
        {"etc/d/new": "new"},
        {"etc/d/x", "etc/d/y"},
    ),
    "opaque": ([folder("etc/d"), opaque("etc/d")], {}, {"etc/d/x", "etc/d/y"}),
    "opaque after what it keeps": (
        [folder("etc/d"), file("etc/d/new", b"new"), file("etc/d/x", b"mine"), opaque("etc/d")],
        {"etc/d/new": "new", "etc/d/x": "mine"},
        {"etc/d/y"},
    ),
    "opaque before what it keeps": (
        [opaque("etc"), file("etc/d/new", b"new")],
        {"etc/d": "folder", "etc/d/new": "new"},
        {"etc/a", "etc/b", "etc/d/x", "etc/d/y"},
    ),
    "opaque over folders of both": (
        [file("etc/d/new", b"new"), opaque("etc")],
        {"etc/d/new": "new"},
        {"etc/a", "etc/b", "etc/d/x", "etc/d/y"},
    ),
    "opaque of nothing": ([opaque("no/where")], {}, set()),
    "metadata of AUFS": ([file(".wh..wh.plnk/1.2", b"x"), file(".wh..wh.aufs")], {}, set()),
    "file over file": ([file("etc/a", b"new")], {"etc/a": "new"}, set()),
    "file over folder": ([file("etc/d", b"new")], {"etc/d": "new"}, {"etc/d/x", "etc/d/y"}),
    "folder over file": ([folder("etc/a")], {"etc/a": "folder"}, set()),
    "folder over link": (
        [folder("lib"), file("lib/new", b"new")],
        {"lib": "folder", "lib/new": "new"},
        set(),
    ),
    "link over folder": (
        [symlink("etc/d", "../usr"), file("etc/d/new", b"new")],
        {"etc/d": "-> ../usr", "usr/new": "new"},
        {"etc/d/x", "etc/d/y"},
    ),
    "link over file": ([symlink("etc/a", "b")], {"etc/a": "-> b"}, set()),
    "hard link over file": ([hardlink("etc/a", "etc/b")], {"etc/a": "lower b"}, set()),
    "hard link to itself": ([hardlink("etc/a", "etc/a")], {}, set()),
    "hard link to a link": ([hardlink("l2", "lib")], {"l2": "-> usr/lib"}, set()),
    "hard link and then the whiteout of its target": (
        [hardlink("etc/c", "etc/a"), whiteout("etc/a")],
        {"etc/c": "lower a"},
        {"etc/a"},
    ),
    "link again and then its whiteout": (
        [symlink("lib", "/etc"), whiteout("lib")],
        {"lib": "-> /etc"},
        set(),
    ),
    "pipe over file": ([fifo("etc/a")], {}, {"etc/a"}),
    "twice": ([file("n", b"1"), file("n", b"2")], {"n": "2"}, set()),
    "twice with other types": (
        [file("n", b"1"), folder("n"), file("n/x", b"x"), symlink("n", "etc"), file("n", b"last")],
        {"n": "last"},
        set(),
    ),
    "missing parents": (
        [file("a/b/c", b"x")],
        {"a": "folder", "a/b": "folder", "a/b/c": "x"},
        set(),
    ),
    "parents behind a dangling link": (
        [symlink("var", "/data/var"), file("var/x", b"x")],
        {"var": "-> /data/var", "data": "folder", "data/var": "folder", "data/var/x": "x"},
        set(),
    ),
    "names in other words": (
        [file("/etc/n1", b"1"), file("./etc/n2", b"2"), file("etc//./n3", b"3"), folder("etc/n4/")],
        {"etc/n1": "1", "etc/n2": "2", "etc/n3": "3", "etc/n4": "folder"},
        set(),
    ),
    "a link that climbs": (
        [symlink("up", "../../../../.."), file("up/etc/new", b"new")],
        {"up": "-> ../../../../..", "etc/new": "new"},
        set(),
    ),
    "sparse": (
        [file("s", b"abcde", pax={"GNU.sparse.map": "2,3,7,2", "GNU.sparse.size": "10"})],
        {"s": "\0\0abc\0\0de\0"},
        set(),
    ),
    "empty names of links": ([symlink("etc/a", "a" * 4095)], {"etc/a": "-> " + "a" * 4095}, set()),
    "bytes that are no text": (
        [file("etc/\udcff\udcfe", b"raw")],
        {"etc/\udcff\udcfe": "raw"},
        set(),
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_second_layer(case: str, mounted: Mounted) -> None:
    members, added, removed = CASES[case]
    image = make_image(make_layer(*BASE), make_layer(*members), config=COMMAND)
    async with mounted(image) as root:
        found = listing(root)
    assert found == {k: v for k, v in BASE_LISTING.items() if k not in removed} | added


async def test_links_to_the_host_lead_nowhere(mounted: Mounted, canary: Path) -> None:
    """Absolute and climbing links, in one layer and across layers, to a folder that exists on the host."""
    out = str(canary)
    up = "../" * 20 + out.lstrip("/")
    evil = [
        symlink("abs", out),
        symlink("up", up),
        file("abs/file", b"evil"),
        file("up/new", b"evil"),
        folder("abs/sub", 0o777),
        file(out, b"evil"),
    ]
    first = [symlink("abs", out), symlink("up", up), symlink("one", "two"), symlink("two", out)]
    second = [
        file("abs/file", b"evil"),
        whiteout("abs/sub"),
        opaque("up"),
        whiteout("up/file"),
        hardlink("stolen", "bait"),
        folder("one/sub", 0o700),
        file("one/sub/file", b"evil"),
    ]
    bait = make_layer(file("bait", b"mine"))
    async with mounted(make_image(make_layer(*evil[:5]), config=COMMAND)) as root:
        assert (root / out.lstrip("/") / "file").read_text() == "evil"
        assert (root / out.lstrip("/") / "new").read_text() == "evil"
    async with mounted(make_image(bait, make_layer(*first), make_layer(*second), config=COMMAND)) as root:
        assert (root / out.lstrip("/") / "sub" / "file").read_text() == "evil"
    assert (canary / "file").read_text() == "untouched"


async def test_attributes(mounted: Mounted, prepare: Prepare) -> None:
    layer = make_layer(
        folder("", 0o751, uid=7, gid=8),
        folder("d", 0o1777, uid=33, gid=34, mtime=1_000_000_000),
        file("d/f", b"x", 0o6751, uid=1000, gid=1001, mtime=1_000_000_001.5),
        file("d/ro", b"x", 0o000, uid=65535, gid=65535),
        symlink("d/l", "f", uid=5, gid=6, mtime=1_000_000_002),
        file(
            "d/x",
            b"x",
            pax=xattrs(user__a="1", security__capability="2", trusted__x="3", user__overlay__x="4"),
        ),
        fifo("d/p"),
        device("d/n", "c", 1, 3),
        device("d/b", "b", 8, 0),
        file("d/old", b"", mtime=-5),
    )
    image = make_image(layer, make_layer(file("d/more", b"x")), config=COMMAND)
    prepared = await prepare(image)
    assert prepared.counts[0].skipped_special == 3
    assert prepared.counts[0].setuid == 1
    assert prepared.counts[0].skipped_xattrs == 3
    async with mounted(image) as root:
        base = root.stat().st_uid - 7
        assert base >= 0x70000000
        seen = {p.name: p.lstat() for p in (root / "d").iterdir()}
        assert set(seen) == {"f", "ro", "l", "x", "old", "more"}
        owners = {name: (s.st_uid - base, s.st_gid - base) for name, s in seen.items()}
        assert owners["f"] == (1000, 1001)
        assert owners["ro"] == (65535, 65535)
        assert owners["l"] == (5, 6)
        assert stat.S_IMODE(root.stat().st_mode) == 0o751
        assert stat.S_IMODE((root / "d").stat().st_mode) == 0o1777
        assert stat.S_IMODE(seen["f"].st_mode) == 0o6751
        assert stat.S_IMODE(seen["ro"].st_mode) == 0
        assert seen["f"].st_mtime == 1_000_000_001.5
        assert seen["l"].st_mtime == 1_000_000_002
        assert seen["old"].st_mtime == -5
        assert os.listxattr(root / "d" / "x") == ["user.a"]
    async with mounted(make_image(layer, config=COMMAND)) as root:
        assert (root / "d").stat().st_mtime == 1_000_000_000


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_compressions_are_known_by_their_magic(compression: Compression, mounted: Mounted) -> None:
    layer = make_layer(file("f", b"x" * 3_000_000), compression=compression)
    lying = Layer(layer.blob, "application/vnd.oci.image.layer.v1.tar+gzip", layer.diff_id)
    async with mounted(make_image(lying, config=COMMAND)) as root:
        assert (root / "f").stat().st_size == 3_000_000


async def test_gzip_of_many_members(mounted: Mounted) -> None:
    tar = make_tar([file("f", b"one" * 5000), file("g", b"two")])
    pieces = b"".join(gzip.compress(tar[at : at + 700]) for at in range(0, len(tar), 700))
    async with mounted(
        make_image(Layer(pieces, layer_of(tar).media_type, digest_of(tar)), config=COMMAND)
    ) as root:
        assert (root / "g").read_text() == "two"


async def test_an_empty_layer(mounted: Mounted) -> None:
    empty = layer_of(b"")
    async with mounted(make_image(make_layer(file("f")), empty, config=COMMAND)) as root:
        assert listing(root) == {"f": ""}


async def test_a_tar_without_an_end_mark(mounted: Mounted) -> None:
    async with mounted(make_image(layer_of(make_tar([file("f")])[:-1024]), config=COMMAND)) as root:
        assert listing(root) == {"f": ""}


async def test_many_layers(mounted: Mounted) -> None:
    layers = [make_layer(file(f"f{n}", str(n).encode()), file("last", str(n).encode())) for n in range(40)]
    async with mounted(make_image(*layers, config=COMMAND)) as root:
        assert (root / "last").read_text() == "39"
        assert len(listing(root)) == 41
