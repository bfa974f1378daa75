"""Manifests and indexes (image-spec, manifest.md, image-index.md)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import ManifestInvalidError
from registry.oci import mediatypes
from registry.oci.manifest import MAX_REFERENCES, parse_manifest
from registry.oci.platform import Platform
from tests.kit.images import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, descriptor, to_json

CONFIG = descriptor(b"{}", OCI_CONFIG)
LAYER = descriptor(b"layer", OCI_LAYER)


def image(**members: Any) -> bytes:
    return to_json(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]} | members
    )


def index(*children: object, **members: Any) -> bytes:
    return to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(children)} | members)


def test_an_image() -> None:
    manifest = parse_manifest(image(annotations={"a": "b"}, extra={"unknown": [1]}), OCI_MANIFEST)
    assert not manifest.is_index
    assert manifest.runnable
    assert [(kind, str(target.digest)) for kind, target in manifest.edges()] == [
        ("config", CONFIG["digest"]),
        ("layer", LAYER["digest"]),
    ]
    assert manifest.annotations == {"a": "b"}
    assert manifest.effective_artifact_type == OCI_CONFIG


def test_an_index() -> None:
    child = descriptor(b"child", OCI_MANIFEST) | {
        "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}
    }
    manifest = parse_manifest(index(child), OCI_INDEX)
    assert manifest.is_index
    assert not manifest.runnable
    assert manifest.children[0].platform == Platform("linux", "arm64", "v8")
    assert manifest.effective_artifact_type is None
    assert parse_manifest(index(artifactType="a/b")).effective_artifact_type == "a/b"


def test_the_type_comes_from_body_or_header() -> None:
    bare = to_json({"schemaVersion": 2, "config": CONFIG, "layers": []})
    assert (
        parse_manifest(bare, f"{mediatypes.DOCKER_MANIFEST}; charset=utf-8").media_type
        == mediatypes.DOCKER_MANIFEST
    )
    assert parse_manifest(bare).media_type == OCI_MANIFEST
    assert parse_manifest(to_json({"schemaVersion": 2, "manifests": []})).media_type == OCI_INDEX
    assert parse_manifest(image(), None).media_type == OCI_MANIFEST
    for wrong in (OCI_INDEX, "application/json", "text/plain"):
        with pytest.raises(ManifestInvalidError, match="contradicts"):
            parse_manifest(image(), wrong)


def test_go_writes_null_for_nothing() -> None:
    assert parse_manifest(image(layers=None)).layers == ()
    assert (
        parse_manifest(to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": None})).children
        == ()
    )
    assert parse_manifest(image(annotations=None, subject=None, artifactType=None)).subject is None


@pytest.mark.parametrize(
    "change",
    [
        {"schemaVersion": 1},
        {"schemaVersion": 3},
        {"schemaVersion": "2"},
        {"schemaVersion": 2.0},
        {"schemaVersion": True},
        {"schemaVersion": None},
        {"mediaType": "application/vnd.docker.distribution.manifest.v1+json"},
        {"mediaType": mediatypes.WITHDRAWN_ARTIFACT},
        {"mediaType": "application/json"},
        {"mediaType": 5},
        {"manifests": []},
        {"config": None},
        {"config": []},
        {"config": {}},
        {"layers": {}},
        {"layers": "x"},
        {"layers": [None]},
        {"layers": [[]]},
        {"layers": [LAYER | {"size": -1}]},
        {"layers": [LAYER | {"size": True}]},
        {"layers": [LAYER | {"size": 1.0}]},
        {"layers": [LAYER | {"size": "1"}]},
        {"layers": [LAYER | {"size": 2**63}]},
        {"layers": [LAYER | {"digest": "sha256:../../etc/passwd"}]},
        {"layers": [LAYER | {"digest": None}]},
        {"layers": [LAYER | {"mediaType": "nonsense"}]},
        {"layers": [LAYER | {"mediaType": "a/b\0"}]},
        {"layers": [LAYER | {"mediaType": ""}]},
        {"layers": [LAYER | {"annotations": {"a": None}}]},
        {"layers": [LAYER] * (MAX_REFERENCES + 1)},
        {"subject": "sha256:x"},
        {"subject": {}},
        {"annotations": []},
        {"annotations": {"a": 1}},
        {"Config": CONFIG},
        {"LAYERS": [LAYER]},
        {"layer\u017f": [LAYER]},
        {"Manifests": []},
        {"mediatype": OCI_MANIFEST},
        {"config": CONFIG | {"Digest": LAYER["digest"]}},
        {"layers": [LAYER | {"\u017fize": 1}]},
        {"artifactType": 1},
        {"artifactType": "a\0b"},
        {"artifactType": "a" * 256},
    ],
    ids=repr,
)
def test_what_breaks_the_specification(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalidError):
        parse_manifest(image(**change))


@pytest.mark.parametrize("missing", ["config", "layers", "schemaVersion"])
def test_what_must_be_there(missing: str) -> None:
    members = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}
    del members[missing]
    with pytest.raises(ManifestInvalidError):
        parse_manifest(to_json(members))


@pytest.mark.parametrize(
    "change",
    [
        {"layers": []},
        {"config": CONFIG},
        {"manifests": {}},
        {"manifests": [LAYER | {"platform": []}]},
        {"manifests": [LAYER | {"platform": {"os": "linux", "architecture": "amd64", "OS": "windows"}}]},
        {"manifests": [LAYER | {"platform": {"os": 1}}]},
        {"manifests": [LAYER | {"platform": {"os": "linux", "architecture": "amd64", "variant": "v²"}}]},
        {"manifests": [LAYER | {"platform": {"os": "li\0nux", "architecture": "amd64"}}]},
    ],
    ids=repr,
)
def test_what_is_no_index(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalidError):
        parse_manifest(index(**change))


IN_TOTO = descriptor(b"{}", "application/vnd.in-toto+json")
HELM = descriptor(b"{}", "application/vnd.cncf.helm.config.v1+json")
CHART = descriptor(b"{}", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
EMPTY = descriptor(b"{}", "application/vnd.oci.empty.v1+json")


@pytest.mark.parametrize(
    ("change", "runnable"),
    [
        ({}, True),
        ({"config": descriptor(b"{}", mediatypes.DOCKER_CONFIG)}, True),
        ({"layers": []}, False),
        ({"layers": [IN_TOTO]}, True),
        ({"layers": [IN_TOTO, LAYER]}, True),
        ({"config": HELM}, False),
        ({"config": EMPTY, "artifactType": "a/b"}, False),
        ({"config": HELM, "mediaType": mediatypes.DOCKER_MANIFEST}, True),
        ({"artifactType": "harmless/thing"}, True),
        ({"config": descriptor(b"{}", "application/vnd.oci.image.config.v2+json")}, True),
        ({"config": descriptor(b"{}", "application/vnd.OCI.image.config.v1+JSON")}, True),
        ({"config": descriptor(b"{}", "application/vnd.docker.anything")}, True),
        ({"config": descriptor(b"{}", "application/octet-stream")}, True),
        ({"config": descriptor(b"{}", "application/json"), "layers": [CHART]}, False),
        ({"config": descriptor(b"{}", "application/vnd.oci.images")}, False),
        ({"config": descriptor(b"{}", "application/vnd.buildkit.cacheconfig.v0")}, False),
        ({"subject": LAYER}, True),
    ],
)
def test_what_must_be_tried(change: dict[str, Any], runnable: bool) -> None:
    assert parse_manifest(image(**change)).runnable is runnable


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_an_error(raw: bytes) -> None:
    with pytest.raises(ManifestInvalidError):
        parse_manifest(raw, OCI_MANIFEST)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(LAYER),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(LAYER)), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["config", "layers", "subject", "annotations", "artifactType"]), JUNK))
def test_any_members_give_a_manifest_or_an_error(members: dict[str, Any]) -> None:
    try:
        manifest = parse_manifest(image(**members))
    except ManifestInvalidError:
        return
    assert all(target.size >= 0 for _, target in manifest.edges())


def test_foreign_layers() -> None:
    assert mediatypes.is_foreign_layer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    assert mediatypes.is_foreign_layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    assert not mediatypes.is_foreign_layer(OCI_LAYER)
