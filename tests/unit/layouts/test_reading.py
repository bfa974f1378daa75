"""Layouts in folders, tars, zips and what docker save writes; and everything that they could lie about."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backports import zstd

from registry.layouts.archive import open_path
from registry.layouts.errors import LayoutError
from registry.layouts.layout import Layout, read_layout
from registry.layouts.members import pieces
from registry.layouts.walk import DEPTH_MAX, walk
from registry.oci.digest import parse_digest
from tests.kit.images import (
    OCI_INDEX,
    Image,
    descriptor,
    digest_of,
    file,
    make_image,
    make_index,
    make_layer,
    to_json,
    write_blobs,
    write_docker_archive,
    write_layout,
    write_layout_tar,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LAYER = make_layer(file("f", b"content"))
IMAGE = make_image(LAYER, config={"Cmd": ["/f"]})
OTHER = make_image(make_layer(file("g", b"other")))


def zipped(folder: Path, path: Path, *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for one in sorted(folder.rglob("*")):
            archive.write(one, one.relative_to(folder))
    return path


def opened(path: Path) -> Layout:
    members = open_path(path)
    try:
        return read_layout(members)
    except BaseException:
        members.close()
        raise


def whole(path: Path, reference: str = "") -> dict[str, bytes]:
    """All that an image in it is made of, by digest."""
    layout = opened(path)
    with closing(layout.members):
        content = walk([layout.find(reference).descriptor], layout.manifest)
        found = {str(digest): one.raw for digest, one in content.manifests.items()}
        for digest in content.blobs:
            with closing(layout.open(digest)) as reader:
                found[str(digest)] = b"".join(pieces(reader))
        return found


def refused(path: Path, reference: str = "") -> LayoutError:
    with pytest.raises(LayoutError) as caught:
        whole(path, reference)
    return caught.value


def written(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def link(name: str, target: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


@pytest.mark.parametrize(
    "make",
    [
        lambda folder, path: folder,
        lambda folder, path: write_layout_tar(path, IMAGE),
        zipped,
        lambda folder, path: zipped(folder, path, method=zipfile.ZIP_STORED),
        lambda folder, path: packed(gzip.compress, path),
        lambda folder, path: packed(zstd.compress, path),
        lambda folder, path: packed(bz2.compress, path),
    ],
)
def test_each_form_gives_the_same(make: Callable[[Path, Path], Path], tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "layout", IMAGE)
    assert whole(make(folder, tmp_path / "archive"), "latest") == IMAGE.blobs()


def packed(compress: Callable[[bytes], bytes], path: Path) -> Path:
    path.write_bytes(compress(write_layout_tar(path, IMAGE).read_bytes()))
    return path


def test_images_are_found_by_name_tag_and_digest(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "layout", IMAGE, OTHER, tag=["example/app:v1", "v2"])
    layout = opened(folder)
    for reference in ("example/app:v1", "v1", IMAGE.digest):
        assert str(layout.find(reference).descriptor.digest) == IMAGE.digest
    with pytest.raises(LayoutError, match="no tag 'v3'; its tags: example/app:v1, v2"):
        layout.find("v3")
    with pytest.raises(LayoutError, match="2 images and no tag was given"):
        layout.find("")
    twice = opened(write_layout(tmp_path / "twice", IMAGE, OTHER, tag=["a:v1", "b:v1"]))
    with pytest.raises(LayoutError, match="several images under the name 'v1'"):
        twice.find("v1")


def test_several_images_that_docker_saved(tmp_path: Path) -> None:
    one = write_docker_archive(tmp_path / "saved.tar", IMAGE, name="example/app:v1")
    found = whole(one, "example/app:v1")
    assert IMAGE.config in found.values()
    assert gzip.decompress(LAYER.blob) in found.values()
    members = [(tarfile.TarInfo("c.json"), IMAGE.config), (tarfile.TarInfo("l.tar"), LAYER.blob)]
    listed = {"Config": "c.json", "Layers": ["l.tar", "l.tar"]}
    document = to_json([listed | {"RepoTags": ["a:1", "b/c:2"]}, listed | {"RepoTags": None, "Layers": []}])
    saved = opened(written(tmp_path / "many.tar", [*members, (tarfile.TarInfo("manifest.json"), document)]))
    assert [one.names for one in saved.entries] == [("a:1",), ("b/c:2",), ()]
    manifest = walk([saved.find("2").descriptor], saved.manifest).manifests[saved.find("1").descriptor.digest]
    # A layer that is compressed says so.
    assert [layer.media_type for layer in manifest.manifest.layers] == [LAYER.media_type] * 2
    saved.members.close()


def test_links_inside_an_archive_mean_what_they_point_at_and_none_leads_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(LAYER.blob)
    folder = write_layout(tmp_path / "layout", IMAGE)
    names = [(tarfile.TarInfo(n), (folder / n).read_bytes()) for n in ("oci-layout", "index.json")]
    rest = {f"blobs/sha256/{d[7:]}": content for d, content in IMAGE.blobs().items()}
    layer = f"blobs/sha256/{LAYER.digest[7:]}"
    content = rest.pop(layer)
    blobs = [(tarfile.TarInfo(name), raw) for name, raw in rest.items()]
    for target, kind in (("../../kept", tarfile.SYMTYPE), ("kept", tarfile.LNKTYPE)):
        kept = [(tarfile.TarInfo("kept"), content), link(layer, target, kind)]
        assert whole(written(tmp_path / "in.tar", [*names, *blobs, *kept])) == IMAGE.blobs()
    for target, kind in (
        (str(secret), tarfile.SYMTYPE),
        (f"../../../{secret.name}", tarfile.SYMTYPE),
        (str(secret), tarfile.LNKTYPE),
        (layer, tarfile.SYMTYPE),
    ):
        evil = written(tmp_path / "out.tar", [*names, *blobs, link(layer, target, kind)])
        assert "has no blobs/sha256/" in refused(evil).message
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        for member, raw in [*names, *blobs]:
            archive.writestr(member.name, raw)
        symlink = zipfile.ZipInfo(layer)
        symlink.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(symlink, str(secret))
    assert "has no blobs/sha256/" in refused(tmp_path / "out.zip").message


@pytest.mark.parametrize("name", ["../oci-layout", "a/../../index.json", "/index.json", "..\\index.json"])
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    tar = written(tmp_path / "evil.tar", [(tarfile.TarInfo(name), b"{}")])
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(name, b"{}")
    for path in (tar, tmp_path / "evil.zip"):
        assert "leads out of it" in refused(path).message


@pytest.mark.parametrize(
    "name", ["../secret", "{secret}", "link.tar", "under/link.tar", f"blobs/sha256/{'a' * 64}"]
)
@pytest.mark.parametrize("of", ["Config", "Layers"])
def test_a_folder_that_names_files_of_this_host(name: str, of: str, tmp_path: Path) -> None:
    """What docker save wrote and somebody unpacked, or made up: what it names would be pushed."""
    secret = tmp_path / "secret"
    secret.write_bytes(IMAGE.config)
    folder = tmp_path / "saved"
    (folder / "blobs" / "sha256").mkdir(parents=True)
    for link in (folder / "link.tar", folder / "blobs" / "sha256" / ("a" * 64)):
        link.symlink_to(secret)
    (folder / "under").symlink_to(folder)
    (folder / "c.json").write_bytes(IMAGE.config)
    (folder / "l.tar").write_bytes(LAYER.blob)
    (folder / "inside.tar").symlink_to("l.tar")
    document = {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar", "inside.tar"]}
    (folder / "manifest.json").write_bytes(to_json([document]))
    assert set(whole(folder).values()) >= {IMAGE.config, LAYER.blob}
    named = name.format(secret=secret)
    document[of] = named if of == "Config" else [named]
    (folder / "manifest.json").write_bytes(to_json([document]))
    assert any(said in refused(folder).message for said in ("leads out of", "has the digest"))


def test_truncated_streams(tmp_path: Path) -> None:
    tar = write_layout_tar(tmp_path / "whole.tar", IMAGE).read_bytes()
    cases = {
        "tar": tar[:-12_000],
        "gzip": gzip.compress(tar)[:-100],
        "zstd": zstd.compress(tar)[:-10],
        "bz2": bz2.compress(tar)[:-100],
        "zip": zipped(write_layout(tmp_path / "l", IMAGE), tmp_path / "z").read_bytes()[:-40],
    }
    for name, content in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert "cut off" in refused(path).message, name


def test_what_is_no_archive(tmp_path: Path) -> None:
    cases = {
        "junk": (b"junk" * 1000, "not a plain tar"),
        "empty": (b"", "not a plain tar"),
        "gzip": (gzip.compress(b"x" * 100_000)[:-8] + b"12345678", "cannot be decompressed"),
        "xz": (b"\xfd7zXZ\0" + bytes(100), "xz -d"),
        "zip": (b"PK\3\4" + bytes(100), "no zip"),
    }
    for name, (content, why) in cases.items():
        (tmp_path / name).write_bytes(content)
        assert why in refused(tmp_path / name).message, name
    os.mkfifo(tmp_path / "pipe")
    assert "neither a folder nor a file" in refused(tmp_path / "pipe").message


def test_zips_that_would_take_too_much(tmp_path: Path) -> None:
    path = zipped(write_layout(tmp_path / "layout", IMAGE), tmp_path / "a.zip", method=zipfile.ZIP_LZMA)
    assert "neither stored nor deflated" in refused(path).message
    raw = bytearray(zipped(tmp_path / "layout", path).read_bytes())
    struct.pack_into("<L", raw, len(raw) - 22 + 12, 1 << 30)
    path.write_bytes(raw)
    assert "a list of members of 1073741824 bytes" in refused(path).message


def damaged(folder: Path, change: str) -> None:
    blobs = folder / "blobs" / "sha256"
    manifest, layer = blobs / IMAGE.digest[7:], blobs / LAYER.digest[7:]
    match change:
        case "manifest":
            manifest.write_bytes(OTHER.manifest)
        case "no manifest":
            manifest.unlink()
        case "no layer":
            layer.unlink()
        case "fifo":
            layer.unlink()
            os.mkfifo(layer)
        case "marker":
            (folder / "oci-layout").write_bytes(b'{"imageLayoutVersion":"2.0.0"}')
        case "no marker":
            (folder / "oci-layout").unlink()
        case "index":
            (folder / "index.json").write_bytes(IMAGE.manifest)
        case "index size":
            entry = descriptor(IMAGE.manifest, IMAGE.media_type) | {"size": 5}
            (folder / "index.json").write_bytes(to_json({"schemaVersion": 2, "manifests": [entry]}))
        case "large index":
            (folder / "index.json").write_bytes(b" " * 5_000_000)
        case _:
            raise AssertionError(change)


@pytest.mark.parametrize(
    ("change", "why", "kind"),
    [
        ("manifest", "not sha256:", "mismatch"),
        ("no manifest", "no readable blobs/sha256/", "missing"),
        ("no layer", "no readable blobs/sha256/", "missing"),
        ("fifo", "is no file", "missing"),
        ("marker", "oci-layout has the version '2.0.0'", "invalid"),
        ("no marker", "no readable oci-layout", "missing"),
        ("index", "is an image manifest and no index", "invalid"),
        ("index size", "bytes, not 5 as is stated", "mismatch"),
        ("large index", "more than 4194304 bytes", "invalid"),
    ],
)
def test_damage(change: str, why: str, kind: str, tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "layout", IMAGE)
    damaged(folder, change)
    error = refused(folder)
    assert why in error.message
    assert error.kind == kind


def indexed(into: Path, *children: dict[str, object]) -> dict[str, object]:
    """The descriptor of an index of these, which is written."""
    raw = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(children)})
    write_blobs(into, Image(raw, b"", (), media_type=OCI_INDEX))
    return descriptor(raw, OCI_INDEX)


def test_indexes_without_end(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "layout", IMAGE)
    entry: dict[str, object] = descriptor(IMAGE.manifest, IMAGE.media_type)
    for _ in range(DEPTH_MAX):
        entry = indexed(folder, entry, entry)
    listed = {"schemaVersion": 2, "mediaType": OCI_INDEX}
    (folder / "index.json").write_bytes(to_json(listed | {"manifests": [entry]}))
    assert f"indexes {DEPTH_MAX} deep" in refused(folder).message
    # One that lists itself has other bytes than its digest says: nobody can name bytes by a digest in them.
    name = "sha256:" + "0" * 64
    itself = {"mediaType": OCI_INDEX, "digest": name, "size": 0}
    raw = to_json(
        listed | {"manifests": [itself | {"size": len(to_json(listed | {"manifests": [itself]})) + 2}]}
    )
    (folder / "blobs" / "sha256" / ("0" * 64)).write_bytes(raw)
    (folder / "index.json").write_bytes(to_json(listed | {"manifests": [itself | {"size": len(raw)}]}))
    assert refused(folder).kind == "mismatch"
    # Where nobody verifies, that is found all the same.
    layout = opened(folder)
    with pytest.raises(LayoutError, match="lists itself"):
        walk([layout.entries[0].descriptor], lambda _: raw)


def test_two_sizes_of_one_blob_and_digests_that_nobody_knows(tmp_path: Path) -> None:
    document = {
        "schemaVersion": 2,
        "config": descriptor(b"{}", "application/x"),
        "layers": [descriptor(b"{}", "application/x") | {"size": 3}],
    }
    folder = write_layout(tmp_path / "a", Image(to_json(document), b"{}", ()))
    assert "has 3 bytes, others say 2" in refused(folder).message
    document["layers"] = [{"mediaType": "application/x", "digest": "blake3:" + "0" * 64, "size": 3}]
    folder = write_layout(tmp_path / "b", Image(to_json(document), b"{}", ()))
    assert "cannot be verified" in refused(folder).message


def test_a_sparse_index_may_lack_images_and_nothing_else(tmp_path: Path) -> None:
    index = make_index(IMAGE, OTHER)
    folder = write_layout(tmp_path / "layout", index)
    (folder / "blobs" / "sha256" / OTHER.digest[7:]).unlink()
    layout = opened(folder)
    roots = [one.descriptor for one in layout.entries]
    with pytest.raises(LayoutError, match="no readable"):
        walk(roots, layout.manifest)
    content = walk(roots, layout.manifest, sparse=True)
    assert content.absent == [parse_digest(OTHER.digest)]
    assert [str(one) for one in content.manifests] == [IMAGE.digest, index.digest]  # in the order of pushes
    (folder / "blobs" / "sha256" / index.digest[7:]).unlink()
    with pytest.raises(LayoutError, match="no readable"):
        walk(roots, layout.manifest, sparse=True)


def test_an_archive_with_a_digest_twice_keeps_the_last(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "layout", IMAGE)
    members = [
        (tarfile.TarInfo(str(one.relative_to(folder))), one.read_bytes())
        for one in folder.rglob("*")
        if one.is_file()
    ]
    spoilt = (tarfile.TarInfo("index.json"), b"{}")
    assert whole(written(tmp_path / "a.tar", [spoilt, *members])) == IMAGE.blobs()
    assert digest_of(IMAGE.manifest) == IMAGE.digest
