"""A repository of the registry that a command is about, asked through the distribution API."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from registry.cli.artifactclient import ArtifactClient
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from registry.cli.client import Client


def repository_client(client: Client, name: str, *, actions: str = "pull") -> ArtifactClient:
    """The repository ``name`` of the registry that ``client`` asks, as the same account."""
    image = ImageName(urlsplit(client.server).netloc, name, None, None)
    return ArtifactClient(client.server, image, None, client.authorization, client.ca_file, actions)
