"""Pulling from layouts and archives: platforms, and everything a source could lie about."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import tarfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.contract.limits import PrepareLimits
from registry.oci.descriptor import Descriptor
from registry.oci.platform import Platform, parse_platform
from sandbox.errors import SandboxError
from sandbox.images import pull as pull_module
from sandbox.images.cache import Cache
from sandbox.images.pull import PulledImage, pull
from sandbox.images.source import ImageSource, is_loopback, open_source
from sandbox.images.sourcefile import LayoutSource
from tests.kit.images import (
    OCI_INDEX,
    Image,
    descriptor,
    file,
    layer_of,
    make_image,
    make_index,
    make_layer,
    make_tar,
    raw_member,
    to_json,
    with_layers,
    write_docker_archive,
    write_layout,
    write_layout_tar,
)

AMD64 = Platform("linux", "amd64")
LAYER = make_layer(file("f", b"content"))
IMAGE = make_image(LAYER, config={"Cmd": ["/f"]})


async def _pull(
    image: Image | Path,
    tmp_path: Path,
    *,
    reference: str = "",
    platform: str = "linux/amd64",
    **limits: float,
) -> PulledImage:
    layout = write_layout(tmp_path / "layout", image) if isinstance(image, Image) else image
    with Cache(tmp_path / "cache").used() as use:
        return await pull(
            LayoutSource(layout),
            reference,
            platform=parse_platform(platform),
            use=use,
            limits=PrepareLimits(**limits),  # type: ignore[arg-type]
        )


async def test_an_image(tmp_path: Path) -> None:
    found = await _pull(IMAGE, tmp_path)
    assert str(found.digest) == IMAGE.digest
    assert found.platform == AMD64
    assert found.config.cmd == ("/f",)
    assert [path.read_bytes() for path in found.layers] == [LAYER.blob]
    assert found.layers[0] == tmp_path / "cache" / "blobs" / "sha256" / LAYER.digest[7:]
    assert not list((tmp_path / "cache").glob("**/*.tmp"))


async def test_a_blob_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    await _pull(IMAGE, tmp_path)
    (tmp_path / "layout" / "blobs" / "sha256" / LAYER.digest[7:]).unlink()
    assert (await _pull(tmp_path / "layout", tmp_path)).layers[0].read_bytes() == LAYER.blob


async def test_what_is_being_written_when_time_is_up_keeps_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links: list[int] = []
    write = pull_module._write

    def slow_write(fd: int, *rest: Any) -> None:
        time.sleep(1.5)
        links.append(os.fstat(fd).st_nlink)  # fails, or finds another file, where it was closed meanwhile
        write(fd, *rest)

    monkeypatch.setattr(pull_module, "_write", slow_write)
    with pytest.raises(SandboxError, match="prepare-timeout"):
        await _pull(IMAGE, tmp_path, seconds=1)
    assert links == [0]
    assert not list((tmp_path / "cache").glob("**/*.tmp"))


async def test_several_at_once_into_one_state(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", IMAGE)
    found = await asyncio.gather(*(_pull(layout, tmp_path) for _ in range(5)))
    assert {one.layers for one in found} == {found[0].layers}
    assert len(list((tmp_path / "cache" / "blobs" / "sha256").iterdir())) == 2


@pytest.mark.parametrize("reference", ["latest", "digest", ""])
async def test_references(reference: str, tmp_path: Path) -> None:
    text = IMAGE.digest if reference == "digest" else reference
    assert str((await _pull(IMAGE, tmp_path, reference=text)).digest) == IMAGE.digest


@pytest.mark.parametrize(
    ("children", "host", "chosen"),
    [
        (["linux/amd64", "linux/arm64"], "linux/amd64", 0),
        (["linux/amd64", "linux/arm64/v8"], "linux/arm64", 1),
        (["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", 0),
        (["linux/arm/v7", "linux/arm/v6"], "linux/arm/v6", 1),
        (["linux/amd64/v3", "linux/amd64/v2"], "linux/amd64/v2", 1),
        (["linux/amd64", "linux/amd64"], "linux/amd64", 0),
        (["windows/amd64", "linux/amd64"], "linux/amd64", 1),
        (["linux/riscv64"], "linux/amd64", None),
        ([], "linux/amd64", None),
    ],
)
async def test_platforms(children: list[str], host: str, chosen: int | None, tmp_path: Path) -> None:
    images = [
        make_image(make_layer(file(f"f{n}")), platform=name, config={"Cmd": ["/f"]})
        for n, name in enumerate(children)
    ]
    index = make_index(*images, attestations=[make_image(LAYER, platform="linux/amd64")])
    if chosen is None:
        with pytest.raises(SandboxError) as caught:
            await _pull(index, tmp_path, platform=host)
        assert caught.value.reason == "platform-unsupported"
        assert all(name in caught.value.message for name in children)
    else:
        found = await _pull(index, tmp_path, platform=host)
        assert str(found.digest) == images[chosen].digest


async def test_an_image_for_another_platform(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="linux/s390x") as caught:
        await _pull(make_image(LAYER, platform="linux/s390x"), tmp_path)
    assert caught.value.reason == "platform-unsupported"


async def test_indexes_in_indexes_and_children_without_a_platform(tmp_path: Path) -> None:
    other = make_image(LAYER, platform="linux/arm64")
    inner = make_index(other, more=[descriptor(IMAGE.manifest, IMAGE.media_type)])
    blobs = inner.blobs() | IMAGE.blobs()
    raw = to_json(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(inner.manifest, OCI_INDEX)]}
    )
    found = await _pull(Image(raw, b"", (), media_type=OCI_INDEX, extra=blobs), tmp_path)
    assert str(found.digest) == IMAGE.digest


async def test_indexes_too_deep_and_diamonds(tmp_path: Path) -> None:
    level = make_index(make_image(LAYER, platform="linux/arm64"))
    for _ in range(6):
        children = [descriptor(level.manifest, OCI_INDEX)] * 50
        raw = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children})
        level = Image(raw, b"", (), media_type=OCI_INDEX, extra=level.blobs())
    with pytest.raises(SandboxError, match="nested") as caught:
        await _pull(level, tmp_path)
    assert caught.value.reason == "manifest-invalid"


async def test_an_index_of_many_others(tmp_path: Path) -> None:
    images = [make_image(make_layer(file(str(n))), platform="linux/arm64") for n in range(70)]
    extra: dict[str, bytes] = {}
    for image in images:
        extra |= image.blobs()
    children = [descriptor(image.manifest, image.media_type) for image in images]
    raw = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children})
    with pytest.raises(SandboxError, match="more than 64"):
        await _pull(Image(raw, b"", (), media_type=OCI_INDEX, extra=extra), tmp_path)


def _changed(image: Image, **members: object) -> Image:
    manifest = json.loads(image.manifest) | members
    return Image(to_json(manifest), image.config, image.layers)


WRONG = {
    "config of another type": (
        _changed(IMAGE, config={**descriptor(IMAGE.config, "application/vnd.example")}),
        "manifest-invalid",
        "no image that can be run",
    ),
    "no layers": (make_image(), "manifest-invalid", "no image that can be run"),
    "a layer of another type": (
        _changed(IMAGE, layers=[descriptor(LAYER.blob, "application/vnd.example")]),
        "manifest-invalid",
        "cannot be unpacked",
    ),
    "more layers than diff IDs": (
        make_image(LAYER, document={"rootfs": {"type": "layers", "diff_ids": []}}),
        "config-invalid",
        "1 layers and the config 0 diff IDs",
    ),
    "a diff ID that cannot be verified": (
        make_image(LAYER, document={"rootfs": {"type": "layers", "diff_ids": ["blake3:" + "0" * 64]}}),
        "config-invalid",
        "cannot be verified",
    ),
    "a config that is no JSON": (
        _changed(
            Image(IMAGE.manifest, b"{", IMAGE.layers),
            config=descriptor(b"{", "application/vnd.oci.image.config.v1+json"),
        ),
        "config-invalid",
        "not valid JSON",
    ),
    "no platform": (make_image(LAYER, document={"os": "", "architecture": ""}), "config-invalid", "names no"),
    "a digest of another kind": (
        _changed(
            IMAGE, layers=[{**descriptor(LAYER.blob, LAYER.media_type), "digest": "blake3:" + "0" * 64}]
        ),
        "manifest-invalid",
        "unsupported digest",
    ),
    "a layer smaller than stated": (
        _changed(IMAGE, layers=[{**descriptor(LAYER.blob, LAYER.media_type), "size": len(LAYER.blob) + 1}]),
        "digest-mismatch",
        "as its descriptor says",
    ),
    "a layer larger than stated": (
        _changed(IMAGE, layers=[{**descriptor(LAYER.blob, LAYER.media_type), "size": len(LAYER.blob) - 1}]),
        "digest-mismatch",
        "more than",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_wrong(case: str, tmp_path: Path) -> None:
    image, reason, why = WRONG[case]
    with pytest.raises(SandboxError) as caught:
        await _pull(image, tmp_path)
    assert caught.value.reason == reason
    assert why in caught.value.message
    assert not list((tmp_path / "cache").glob("**/*.tmp"))


async def test_other_bytes_than_the_digest(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", IMAGE)
    (layout / "blobs" / "sha256" / LAYER.digest[7:]).write_bytes(LAYER.blob[:-1] + b"?")
    with pytest.raises(SandboxError) as caught:
        await _pull(layout, tmp_path)
    assert caught.value.reason == "digest-mismatch"
    assert caught.value.message.startswith("layer 1 is sha256:")
    assert not (tmp_path / "cache" / "blobs" / "sha256" / LAYER.digest[7:]).exists()


async def test_another_manifest_than_asked_for(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", IMAGE)
    (layout / "blobs" / "sha256" / IMAGE.digest[7:]).write_bytes(make_image(LAYER).manifest)
    with pytest.raises(SandboxError) as caught:
        await _pull(layout, tmp_path, reference=IMAGE.digest)
    assert caught.value.reason == "digest-mismatch"


async def test_larger_than_the_limit_before_it_is_fetched(tmp_path: Path) -> None:
    big = make_image(layer_of(bytes(range(256)) * 8192, compression="none"))
    lying = with_layers(big)
    with pytest.raises(SandboxError) as caught:
        await _pull(lying, tmp_path, unpacked_bytes=1 << 20)
    assert caught.value.reason == "too-large"


class _Slow:
    """A source that hands out its last byte never."""

    def __init__(self, layout: LayoutSource, *, endless: bool) -> None:
        self._layout = layout
        self._endless = endless

    async def manifest(self, reference: str) -> tuple[bytes, str]:
        return await self._layout.manifest(reference)

    async def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        if not self._endless:
            await asyncio.sleep(60)
        while True:
            yield b"\0" * 65536


@pytest.mark.parametrize(("endless", "reason"), [(False, "prepare-timeout"), (True, "digest-mismatch")])
async def test_sources_that_do_not_end(endless: bool, reason: str, tmp_path: Path) -> None:
    source: ImageSource = _Slow(LayoutSource(write_layout(tmp_path / "layout", IMAGE)), endless=endless)
    limits = PrepareLimits(seconds=60 if endless else 0.3)
    with Cache(tmp_path / "cache").used() as use, pytest.raises(SandboxError) as caught:
        await pull(source, "", platform=AMD64, use=use, limits=limits)
    assert caught.value.reason == reason
    assert not list((tmp_path / "cache").glob("**/*.tmp"))


async def _opened(image: str, tmp_path: Path) -> PulledImage:
    async with open_source(image) as (source, reference):
        with Cache(tmp_path / "cache").used() as use:
            return await pull(source, reference, platform=AMD64, use=use, limits=PrepareLimits())


async def test_what_a_person_types(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "a:b", IMAGE, make_image(make_layer(file("g"))), tag=["v1", "v2"])
    archive = write_layout_tar(tmp_path / "layout.tar", IMAGE)
    saved = write_docker_archive(tmp_path / "saved.tar", IMAGE)
    assert str((await _opened(f"oci:{layout}:v1", tmp_path)).digest) == IMAGE.digest
    assert str((await _opened(str(archive), tmp_path)).digest) == IMAGE.digest
    (tmp_path / "layout.tgz").write_bytes(gzip.compress(archive.read_bytes()))
    assert str((await _opened(str(tmp_path / "layout.tgz"), tmp_path)).digest) == IMAGE.digest
    from_docker = await _opened(str(saved), tmp_path)
    assert from_docker.config.cmd == ("/f",)
    assert str(from_docker.config.diff_ids[0]) == LAYER.diff_id


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("oci:{0}/layout", "no tag was given"),
        ("oci:{0}/layout:nope", "no tag 'nope'; its tags: v1, v2"),
        ("oci:{0}/nothing", "nothing cannot be read: No such file"),
        ("{0}/nothing.tar", "no file either"),
        ("{0}/junk", "not a plain tar"),
        ("{0}/empty.tar", "no index.json, and no manifest.json"),
        ("just-a-name", "does not start with a registry host"),
        ("127.0.0.1:1/team/app:v1", "cannot be reached"),
    ],
)
async def test_what_cannot_be_opened(image: str, why: str, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", IMAGE, make_image(make_layer(file("g"))), tag=["v1", "v2"])
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    (tmp_path / "empty.tar").write_bytes(b"\0" * 10240)
    with pytest.raises(SandboxError) as caught:
        await _opened(image.format(tmp_path), tmp_path)
    assert caught.value.reason == "pull-failed"
    assert why in caught.value.message


async def test_a_layout_of_pipes_and_links(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", IMAGE)
    blob = layout / "blobs" / "sha256" / LAYER.digest[7:]
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(SandboxError, match="is no file"):
        await _pull(layout, tmp_path)


@pytest.mark.parametrize(
    ("host", "is_this_machine"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:80", True),
        ("[::1]:80", True),
        ("127.0.0.1.example.com", False),
        ("localhost.example.com:80", False),
        ("10.0.0.1", False),
    ],
)
def test_this_machine(host: str, is_this_machine: bool) -> None:
    assert is_loopback(host) is is_this_machine


@pytest.mark.parametrize("kind", [b"L", b"x"])
@pytest.mark.parametrize(
    ("size", "data"),
    [
        (b"\x80" + (1 << 40).to_bytes(11, "big"), b""),
        (b"%011o" % 400_000, b"1" * 400_000),
        (b"\xff" * 12, b""),
    ],
)
async def test_archives_with_endless_headers(tmp_path: Path, kind: bytes, size: bytes, data: bytes) -> None:
    path = tmp_path / "evil.tar"
    path.write_bytes(make_tar([raw_member(b"h", size=size, kind=kind, data=data)]))
    with pytest.raises(SandboxError, match="not a plain tar"):
        await _opened(str(path), tmp_path)


async def test_a_layer_that_is_listed_many_times_is_read_once(tmp_path: Path) -> None:
    """Else a file of a few megabytes keeps its reader for hours."""
    listed = to_json([{"Config": "config", "Layers": ["layer"] * 2000}])
    path = tmp_path / "evil.tar"
    layer = file("layer", b"\0" * (16 << 20))
    path.write_bytes(make_tar([file("config", IMAGE.config), layer, file("manifest.json", listed)]))
    started = time.process_time()
    with pytest.raises(SandboxError, match="diff IDs"):
        await _opened(str(path), tmp_path)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("tar", [False, True])
async def test_a_manifest_that_index_json_does_not_name(tmp_path: Path, tar: bool) -> None:
    lying = replace(IMAGE, manifest=IMAGE.manifest + b" ", extra={IMAGE.digest: IMAGE.manifest + b" "})
    entry = descriptor(IMAGE.manifest, IMAGE.media_type)
    layout = write_layout(tmp_path / "layout", lying)
    index = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
    (layout / "index.json").write_bytes(index)
    image = f"oci:{layout}"
    if tar:
        with tarfile.open(tmp_path / "layout.tar", "w") as archive:
            archive.add(layout, arcname=".")
        image = str(tmp_path / "layout.tar")
    with pytest.raises(SandboxError) as caught:
        await _opened(image, tmp_path)
    assert caught.value.reason == "digest-mismatch"
