"""Media types that mean something to the registry or the sandbox (image-spec, media-types.md)."""

from __future__ import annotations

import re

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
IMAGE_CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})
"""A manifest whose config has one of these types is an image that can be run."""

IN_TOTO = "application/vnd.in-toto+json"
"""A layer with a statement about an image, as build attestations have them."""

_DOCKER_TAKES = re.compile(
    r"application/vnd\.(?:oci\.image|docker)(?:\..*)?|application/octet-stream|application/json|text/html"
)

LAYER_TARS = frozenset(
    {
        OCI_LAYER,
        f"{OCI_LAYER}+gzip",
        f"{OCI_LAYER}+zstd",
        DOCKER_LAYER,
        f"{DOCKER_LAYER}.gzip",
        f"{DOCKER_LAYER}.zstd",
    }
)

SCHEMA1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
WITHDRAWN_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"


def docker_takes(media_type: str) -> bool:
    """Whether Docker's own puller makes an image of a config or layer of this type in an OCI manifest.

    It goes by the beginning, in any letters, and lets through what old registries said of configs.
    """
    return _DOCKER_TAKES.fullmatch(media_type.lower()) is not None


def is_foreign_layer(media_type: str) -> bool:
    """Whether a layer may live elsewhere, so that its blob is never required (image-spec, layer.md)."""
    return ".nondistributable." in media_type or ".foreign." in media_type
