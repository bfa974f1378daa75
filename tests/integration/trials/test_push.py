"""What a push sets off: trials, parts and states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from sqlalchemy import func, select

from registry.db.trials import parts
from tests.kit.access import ask
from tests.kit.distribution import push_blob, put_manifest, small_manifest
from tests.kit.images import (
    OCI_CONFIG,
    OCI_INDEX,
    Compression,
    Image,
    descriptor,
    digest_of,
    file,
    make_image,
    make_index,
    make_layer,
    to_json,
)
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image, tiny_index


async def count_parts(port: Port) -> int:
    async with port.database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(parts))).scalar_one()


async def test_an_image_is_pending_until_a_worker_has_reported(port: Port) -> None:
    digest = await port.push(tiny_image())
    (trial,) = await port.trials(digest)
    assert (trial["state"], trial["verdict"], trial["cause"]) == ("queued", None, "push")
    assert await port.state(digest) == "pending"
    worker = await port.worker("one")
    job = await worker.claim()
    assert (job["digest"], job["repository"], job["attempt"]) == (digest, REPOSITORY, 1)
    assert (await port.trials(digest))[0]["state"] == "running"
    assert (await worker.report(job)).status == 204
    (trial,) = await port.trials(digest)
    assert (trial["state"], trial["verdict"]) == ("done", "pass")
    assert trial["reason"] == "the command exits 0; seen: exit code 0"
    assert await port.state(digest) == "pass"


async def test_pushed_again_the_verdict_stands_and_nothing_is_tried(port: Port) -> None:
    image = tiny_image()
    digest = await port.push(image)
    worker = await port.worker("one")
    await worker.report(await worker.claim(), met=False, exit_code=3)
    assert await port.push(image, tag="2") == digest
    assert await port.state("2") == "fail"
    assert len(await port.trials(digest)) == 1
    assert await worker.claim() is None


async def test_deleted_and_pushed_again_the_verdict_is_remembered(port: Port) -> None:
    image = tiny_image()
    digest = await port.push(image)
    worker = await port.worker("one")
    await worker.report(await worker.claim())
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{digest}")).status == 202
    await port.push(image)
    assert await port.state(digest) == "pass"
    assert await worker.claim() is None


async def test_an_index_shares_the_trial_of_a_child_pushed_before_it(port: Port) -> None:
    index, (image,) = tiny_index("linux/amd64")
    digest = await port.push(index)
    assert await count_parts(port) == 1
    worker = await port.worker("one")
    job = await worker.claim()
    assert job["digest"] == image.digest
    assert await worker.claim() is None
    await worker.report(job)
    assert [await port.state(one) for one in (digest, image.digest)] == ["pass", "pass"]


async def test_an_index_is_as_good_as_the_worst_platform_that_is_run(
    tmp_path: Path, database_url: str
) -> None:
    platforms = ("linux/amd64", "linux/arm64")
    async with open_port(tmp_path / "data", database_url, trial_platforms=platforms) as port:
        index, images = tiny_index("linux/amd64", "linux/arm64", "linux/s390x")
        digest = await port.push(index)
        assert await port.state(images[2].digest) == "unsupported"
        worker = await port.worker("one")
        job = await worker.claim(platforms=("linux/arm64",))
        assert job["platform"] == "linux/arm64"
        await worker.report(job, met=False, exit_code=1)
        assert await port.state(digest) == "pending"
        await worker.report(await worker.claim())
        assert await port.state(digest) == "fail"
        (trial,) = await port.trials(digest)
        assert trial["reason"].startswith("linux/arm64: expected: exit code is 0")
        states = [await port.state(image.digest) for image in images]
        assert states == ["pass", "fail", "unsupported"]


async def test_an_image_for_a_platform_nobody_runs_is_unsupported_at_once(port: Port) -> None:
    digest = await port.push(tiny_image("linux/s390x"))
    assert await port.state(digest) == "unsupported"
    (trial,) = await port.trials(digest)
    assert (trial["state"], trial["verdict"]) == ("done", "error")
    assert trial["reason"] == "no worker of this registry runs linux/s390x"
    index, _ = tiny_index("linux/s390x", "linux/ppc64le")
    assert await port.state(await port.push(index, tag="2")) == "unsupported"


def _chart() -> Image:
    config = b'{"name":"chart"}'
    layer = make_layer()
    manifest = to_json(
        {
            "schemaVersion": 2,
            "config": descriptor(config, "application/vnd.cncf.helm.config.v1+json"),
            "layers": [descriptor(layer.blob, "application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
        }
    )
    return Image(manifest, config, (layer,))


def _signature() -> Image:
    layer = b'{"critical":{}}'
    subject = tiny_image()
    manifest = to_json(
        {
            "schemaVersion": 2,
            "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "config": descriptor(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [descriptor(layer, "application/vnd.dev.sigstore.bundle.v0.3+json")],
            "subject": descriptor(subject.manifest, subject.media_type),
        }
    )
    return Image(manifest, b"{}", (), extra={digest_of(layer): layer})


def _attestation() -> Image:
    config = to_json({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"type": "layers"}})
    layer = b'{"_type":"https://in-toto.io/Statement/v0.1"}'
    manifest = to_json(
        {
            "schemaVersion": 2,
            "config": descriptor(config, OCI_CONFIG),
            "layers": [descriptor(layer, "application/vnd.in-toto+json")],
        }
    )
    return Image(manifest, config, (), extra={digest_of(layer): layer})


async def test_what_nobody_can_run_is_not_applicable(port: Port) -> None:
    for image in (_chart(), _signature(), _attestation(), make_image(), make_index()):
        digest = await port.push(image)
        assert await port.state(digest) == "not-applicable"
        assert await port.trials(digest) == []
        assert (await port.pull(digest)).status == 200


UNREADABLE: Mapping[str, Callable[[str], str]] = {
    "a name twice": lambda text: text[:-1] + ',"os":"linux"}',
    "a large number": lambda text: text[:-1] + ',"x":99999999999999999999999}',
    "no os": lambda text: text.replace('"os":"linux",', "").replace(',"os":"linux"', ""),
    "a mark in front": lambda text: "\ufeff" + text,
    "deep": lambda text: text[:-1] + ',"x":' + "[" * 70 + "]" * 70 + "}",
    "long": lambda text: text[:-1] + ',"x":"' + "a" * 8 * 1024 * 1024 + '"}',
    "empty": lambda text: "{}",
}


async def test_an_image_whose_config_only_others_can_read_is_not_admitted(port: Port) -> None:
    image = tiny_image()
    await push_blob(port.admin, REPOSITORY, image.layers[0].blob)
    for what, change in UNREADABLE.items():
        config = change(image.config.decode()).encode()
        await push_blob(port.admin, REPOSITORY, config)
        raw = small_manifest([image.layers[0].blob], config)
        assert (await put_manifest(port.admin, REPOSITORY, "1", raw)).status == 201, what
        assert await port.state("1") == "unsupported", what
        (trial,) = await port.trials(digest_of(raw))
        assert trial["reason"] == "its image config cannot be read, or names no platform", what
        answers = [
            await port.pull("1"),
            await port.pull(digest_of(raw)),
            await ask(port.reader, "GET", f"/v2/{REPOSITORY}/blobs/{image.layers[0].digest}"),
        ]
        assert [answer.status for answer in answers] == [403, 403, 403], what


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_an_image_that_calls_its_layers_statements_is_tried(
    port: Port, compression: Compression
) -> None:
    program = b"\x7fELF\x02\x01\x01" + bytes(9)
    image = make_image(make_layer(file("app", program), compression=compression), config={"Cmd": ["/app"]})
    await push_blob(port.admin, REPOSITORY, image.config)
    await push_blob(port.admin, REPOSITORY, image.layers[0].blob)
    layers = [
        descriptor(content, "application/vnd.in-toto+json") for content in (b"{}", image.layers[0].blob)
    ]
    await push_blob(port.admin, REPOSITORY, b"{}")
    raw = to_json({"schemaVersion": 2, "config": descriptor(image.config, OCI_CONFIG), "layers": layers})
    assert (await put_manifest(port.admin, REPOSITORY, "1", raw)).status == 201
    assert await port.state("1") == "pending"
    assert (await port.pull("1")).status == 403


async def test_attestation_children_are_never_tried(port: Port) -> None:
    image, attestation = tiny_image(), _attestation()
    digest = await port.push(make_index(image, attestations=(attestation,)))
    assert await port.state(attestation.digest) == "not-applicable"
    (trial,) = await port.trials(digest)
    assert [part["digest"] for part in trial["parts"]] == [image.digest]


async def test_an_image_cannot_hide_behind_an_attestation_s_annotation(port: Port) -> None:
    good, bad = tiny_image(), tiny_image()
    marked = descriptor(bad.manifest, bad.media_type) | {
        "platform": {"os": "linux", "architecture": "amd64"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    await port.push(bad, tag="bad")
    digest = await port.push(make_index(good, more=(marked,)))
    (trial,) = await port.trials(digest)
    assert {part["digest"] for part in trial["parts"]} == {good.digest, bad.digest}


async def test_indexes_of_indexes_bring_their_images(port: Port) -> None:
    inner, (image,) = tiny_index("linux/amd64")
    await port.push(inner, tag="inner")
    outer = to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                descriptor(inner.manifest, OCI_INDEX),
                descriptor(image.manifest, image.media_type),
            ],
        }
    )
    assert (await put_manifest(port.admin, REPOSITORY, "outer", outer, OCI_INDEX)).status == 201
    (trial,) = await port.trials(digest_of(outer))
    assert [part["digest"] for part in trial["parts"]] == [image.digest]
    assert await count_parts(port) == 1


async def test_an_index_nested_too_deep_is_refused_and_nothing_is_stored(port: Port) -> None:
    raw = tiny_image().manifest
    inner, _ = tiny_index("linux/amd64")
    await port.push(inner, tag="0")
    raw = inner.manifest
    statuses = []
    for level in range(8):
        raw = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(raw, OCI_INDEX)]})
        answer = await put_manifest(port.admin, REPOSITORY, f"deep{level}", raw, OCI_INDEX)
        statuses.append(answer.status)
        if answer.status != 201:
            break
    assert statuses[-1] == 400
    assert "levels deep" in answer.body.decode()
    assert (await port.pull(digest_of(raw), client=port.admin)).status == 404


async def test_a_repository_that_tries_nothing_has_untried_images(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, trial_on_push=False) as port:
        digest = await port.push(tiny_image())
        assert await port.state(digest) == "untried"
        assert await port.trials(digest) == []
        refused = await port.pull(digest)
        assert refused.status == 403
        assert "was never tried" in refused.body.decode()
        blob = await push_blob(port.admin, REPOSITORY, b"x")
        assert blob
