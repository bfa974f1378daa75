"""Layers that are refused: each with its reason and the member's name, and nothing stays behind."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from tests.hostile.images.conftest import Prepare
from tests.kit.images import (
    Layer,
    Member,
    digest_of,
    file,
    folder,
    hardlink,
    layer_of,
    make_image,
    make_layer,
    make_tar,
    raw_member,
    symlink,
    xattrs,
)

COMMAND = {"Cmd": ["/x"]}
GOOD = make_layer(folder("etc"), file("etc/motd", b"hello"))
LONG_CHAIN = Member("", raw=b"".join(raw_member(b"././@LongLink", kind=b"L").raw or b"" for _ in range(3000)))

REFUSED: dict[str, tuple[list[Member], str]] = {
    "parent": ([file("../canary/file", b"x")], "'..' in its name"),
    "parent in the middle": ([file("etc/../../canary/file", b"x")], "'..' in its name"),
    "parent folder": ([folder("..")], "'..' in its name"),
    "absolute parent": ([file("/../canary/file", b"x")], "'..' in its name"),
    "hard link out": ([hardlink("x", "../../canary/file")], "'..' in its link target"),
    "hard link to the host": ([hardlink("x", "/etc/passwd")], "not in the image"),
    "hard link to a folder": ([folder("d"), hardlink("x", "d")], "hard link to a folder"),
    "hard link through a link out": (
        [symlink("d", "/etc"), hardlink("x", "d/passwd")],
        "not in the image",
    ),
    "hard link without a target": ([hardlink("x", "")], "empty"),
    "hard link to the root": ([hardlink("x", "/")], "not in the image"),
    "whiteout of the parent": ([file("etc/.wh...")], "names no file"),
    "whiteout of itself": ([file("etc/.wh..")], "names no file"),
    "whiteout of nothing": ([file("etc/.wh.")], "names no file"),
    "whiteout of the parent at the root": ([file(".wh...")], "names no file"),
    "below a whiteout": ([file(".wh.etc/passwd")], "below a whiteout"),
    "whiteout with a parent": ([file("../.wh.canary")], "'..' in its name"),
    "NUL in a name": ([file("x", pax={"path": "etc/a\0b"})], "NUL"),
    "NUL in a link": ([symlink("x", "y", pax={"linkpath": "a\0b"})], "NUL"),
    "long part": ([file("a" * 256, b"")], "more than 255 bytes"),
    "long name": ([file("/".join(["a" * 200] * 21))], "4096 are the limit"),
    "deep": ([file("/".join("a" * 257))], "256 are the limit"),
    "deep through links": (
        [
            folder("/".join("a" * 200)),
            symlink("l", "/".join("a" * 200)),
            file("l/" + "/".join("b" * 100)),
        ],
        "256",
    ),
    "owner": ([file("x", uid=65536)], "owners are numbers"),
    "negative owner": ([raw_member(b"x", uid=b"\xff" * 8)], "owners are numbers"),
    # Told by us or, before Python 3.11.4, by its own reader.
    "negative size": ([raw_member(b"x", size=b"\xff" * 12)], "layer 1"),
    "huge size": ([raw_member(b"x", size=b"\x80" + b"\x7f" * 11)], "limit"),
    "no number": ([file("a"), raw_member(b"x", size=b"zzzzzzzzzzz")], "header after member 1"),
    "no time": ([file("x", pax={"mtime": "nan"})], "the time nan"),
    "unknown type": ([raw_member(b"x", kind=b"V")], "unknown type"),
    "under a file": ([file("f"), file("f/x")], "below something that is no folder"),
    "circle of links": ([symlink("a", "b"), symlink("b", "a"), file("a/x")], "circle"),
    "huge extended header": ([raw_member(b"x", kind=b"x", size=b"00077777777")], "extended header"),
    "chain of long names": ([LONG_CHAIN], "header after member 0"),
    "too many attributes": ([file("x", pax=xattrs(user__a="v" * 70000))], "extended attributes"),
    "sparse map out of the file": (
        [file("x", b"abc", pax={"GNU.sparse.map": "0,2,1,9", "GNU.sparse.size": "5"})],
        "sparse map",
    ),
    "sparse map with more than there is": (
        [file("x", b"abc", pax={"GNU.sparse.map": "0,4000", "GNU.sparse.size": "4000"})],
        "sparse map",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refused(case: str, prepare: Prepare, state: Path) -> None:
    members, why = REFUSED[case]
    with pytest.raises(SandboxError) as caught:
        await prepare(make_image(make_layer(*members), config=COMMAND))
    assert caught.value.reason in ("layer-invalid", "too-large")
    assert why in caught.value.message
    assert caught.value.message.startswith("layer 1 (sha256:")
    assert not caught.value.retryable
    assert list((state / "cache" / "snapshots").iterdir()) == []


async def test_a_good_layer_below_a_bad_one_is_kept(prepare: Prepare, state: Path) -> None:
    with pytest.raises(SandboxError, match=r"layer 2 \(sha256:[0-9a-f]{12}\): member '../x'"):
        await prepare(make_image(GOOD, make_layer(file("../x")), config=COMMAND))
    assert [path.suffix for path in (state / "cache" / "snapshots").iterdir()] == [""]


BROKEN: dict[str, tuple[Layer, str]] = {
    "cut off in a header": (layer_of(make_tar([file("a", b"x" * 2000)])[:700]), "cut off"),
    "cut off in data": (layer_of(make_tar([file("a", b"x" * 2000)])[:1100]), "cut off"),
    "half a header": (layer_of(make_tar([file("a")])[:300]), "broken"),
    "no tar": (layer_of(b"this is no tar" * 100), "broken"),
    "broken checksum in the middle": (
        layer_of(make_tar([file("a")])[:512] + b"\x01" * 512 + make_tar([file("b")])),
        "header after member 1",
    ),
    "goes on after its end": (
        layer_of(make_tar([file("a")])[:512] + b"\0" * 512 + make_tar([file("b")])),
        "end mark",
    ),
    "cut off gzip": (Layer(GOOD.blob[:-12], GOOD.media_type, GOOD.diff_id), "compressed data"),
    "wrong gzip checksum": (
        Layer(GOOD.blob[:-8] + b"\1\2\3\4" + GOOD.blob[-4:], GOOD.media_type, GOOD.diff_id),
        "compressed data",
    ),
    "garbage after gzip": (Layer(GOOD.blob + b"garbage", GOOD.media_type, GOOD.diff_id), "compressed data"),
    "broken zstd": (Layer(b"\x28\xb5\x2f\xfd" + b"\xff" * 64, GOOD.media_type, GOOD.diff_id), "compressed"),
    "zstd with a huge window": (
        Layer(bytes.fromhex("28b52ffd 00 f8") + b"\0" * 32, GOOD.media_type, GOOD.diff_id),
        "compressed data",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_broken(case: str, prepare: Prepare) -> None:
    layer, why = BROKEN[case]
    with pytest.raises(SandboxError) as caught:
        await prepare(make_image(layer, config=COMMAND))
    assert caught.value.reason == "layer-invalid"
    assert why in caught.value.message


async def test_other_content_than_its_diff_id(prepare: Prepare, state: Path) -> None:
    layer = Layer(GOOD.blob, GOOD.media_type, digest_of(b"something else"))
    with pytest.raises(SandboxError) as caught:
        await prepare(make_image(layer, config=COMMAND))
    assert caught.value.reason == "digest-mismatch"
    assert list((state / "cache" / "snapshots").iterdir()) == []


async def test_other_content_than_the_snapshot_that_it_names(prepare: Prepare) -> None:
    """Else the snapshot of a good image is tried, and passes, in place of what everybody else would pull."""
    good = await prepare(make_image(GOOD, config=COMMAND))
    evil = make_layer(file("bin/evil", mode=0o755))
    lying = Layer(evil.blob, evil.media_type, GOOD.diff_id)
    for _ in range(2):
        with pytest.raises(SandboxError) as caught:
            await prepare(make_image(lying, config=COMMAND))
        assert caught.value.reason == "digest-mismatch"
    # The same content, compressed otherwise, is no lie; and the snapshot stays where runs have it mounted.
    inode = good.lower[0].stat().st_ino
    again = Layer(gzip.compress(gzip.decompress(GOOD.blob), 9), GOOD.media_type, GOOD.diff_id)
    other = await prepare(make_image(again, config=COMMAND))
    assert (other.lower, other.counts) == (good.lower, good.counts)
    assert other.lower[0].stat().st_ino == inode


async def test_bytes_over_the_limit(prepare: Prepare) -> None:
    layer = make_layer(file("a", b"x" * 900_000), file("b", b"x" * 900_000))
    with pytest.raises(SandboxError) as caught:
        await prepare(make_image(layer, config=COMMAND), unpacked_bytes=1 << 20)
    assert caught.value.reason == "too-large"
    assert "member 'b'" in caught.value.message


async def test_bytes_over_the_limit_in_layers(prepare: Prepare) -> None:
    layers = [make_layer(file(f"f{n}", os.urandom(4) * 150_000)) for n in range(2)]
    image = make_image(*layers, config=COMMAND)
    with pytest.raises(SandboxError) as caught:
        await prepare(image, unpacked_bytes=1 << 20)
    assert caught.value.reason == "too-large"
    # The same with snapshots that are there already.
    await prepare(image)
    with pytest.raises(SandboxError) as caught:
        await prepare(image, unpacked_bytes=1 << 20)
    assert caught.value.reason == "too-large"


async def test_copies_of_lower_files_count(prepare: Prepare) -> None:
    big = make_layer(file("big", b"x" * 700_000))
    with pytest.raises(SandboxError) as caught:
        await prepare(
            make_image(big, make_layer(hardlink("two", "big")), config=COMMAND), unpacked_bytes=1 << 20
        )
    assert caught.value.reason == "too-large"


async def test_gzip_bomb(prepare: Prepare) -> None:
    zeros = b"".join(gzip.compress(b"\0" * (1 << 24)) for _ in range(40))
    layer = Layer(gzip.compress(make_tar([file("a")])[:512]) + zeros, GOOD.media_type, GOOD.diff_id)
    with pytest.raises(SandboxError) as caught:
        await prepare(make_image(layer, config=COMMAND), unpacked_bytes=1 << 20, files=10)
    assert caught.value.reason == "too-large"


async def test_too_many_files(prepare: Prepare) -> None:
    with pytest.raises(SandboxError) as caught:
        await prepare(make_image(make_layer(*(file(f"f{n}") for n in range(30))), config=COMMAND), files=20)
    assert caught.value.reason == "too-many-files"


async def test_folders_that_names_imply_count(prepare: Prepare) -> None:
    members = [file("/".join([str(n), *"abcdefgh", "x"])) for n in range(5)]
    with pytest.raises(SandboxError) as caught:
        await prepare(make_image(make_layer(*members), config=COMMAND), files=30)
    assert caught.value.reason == "too-many-files"


async def test_huge_sparse_file(prepare: Prepare) -> None:
    member = file("x", b"abc", pax={"GNU.sparse.map": "0,3", "GNU.sparse.size": str(1 << 50)})
    with pytest.raises(SandboxError) as caught:
        await prepare(make_image(make_layer(member), config=COMMAND))
    assert caught.value.reason == "too-large"


async def test_out_of_time(prepare: Prepare, state: Path) -> None:
    with pytest.raises(SandboxError) as caught:
        await prepare(make_image(GOOD, config=COMMAND), seconds=0.01)
    assert caught.value.reason == "prepare-timeout"
    assert list((state / "cache" / "snapshots").iterdir()) == []


async def test_files_of_zeros_are_no_bomb(prepare: Prepare) -> None:
    """Weights filled with zeros shrink a thousandfold and are ordinary."""
    prepared = await prepare(make_image(make_layer(file("weights", b"\0" * (64 << 20))), config=COMMAND))
    assert prepared.counts[0].written_bytes == 64 << 20


def test_a_plain_reader_takes_them() -> None:
    """The policy refuses these, not the library: Python's own reader lists each without a word."""
    for case in ("parent", "hard link out", "whiteout of the parent", "owner", "no time"):
        with tarfile.open(fileobj=io.BytesIO(make_tar(REFUSED[case][0]))) as archive:
            assert archive.getmembers()


SPARSE = {
    f"GNU.sparse.{name}": value
    for name, value in {"major": "1", "minor": "0", "name": "x", "realsize": "1"}.items()
}


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (raw_member(b"h", size=b"%011o" % 800_000, kind=b"x", data=b"1" * 800_000), "digits in a row"),
        (raw_member(b"h", size=b"%011o" % 800_000, kind=b"L", data=b"1" * 800_000), "digits in a row"),
        (
            file(
                "x",
                b"999999999\n" + b"0\n" * (1 << 20),
                pax=SPARSE,
            ),
            "extended headers of",
        ),
    ],
)
async def test_headers_that_take_for_ever_to_read(member: Member, why: str, prepare: Prepare) -> None:
    """Minutes in the library of older Pythons; here they end before it looks."""
    with pytest.raises(SandboxError, match=why):
        await prepare(make_image(make_layer(member, file("a")), config=COMMAND), seconds=60)
