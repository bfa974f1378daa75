"""cosign: signatures and attestations with a key pair, offline, as referrers and in the older form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.clients import ClientError, Clients
from tests.kit.images import Image, busybox_image, file, make_layer, write_layout
from tests.kit.server import ADMIN, Registry

PLAIN = "--allow-http-registry"
SIGN = ("--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false", PLAIN, "--yes")
VERIFY = ("--key", "cosign.pub", "--insecure-ignore-tlog=true", PLAIN)
OLDER = "--new-bundle-format=false"


@pytest.fixture
def pushed(clients: Clients, registry: Registry, tmp_path: Path) -> Callable[[str], str]:
    """Pushes an image of its own and makes a key pair; returns the image's name with its digest."""
    clients.run("cosign", "generate-key-pair")
    (clients.folder / "predicate.json").write_text('{"built": "here"}')

    def push(name: str) -> str:
        image: Image = busybox_image(layers=[make_layer(file("name", name.encode()))])
        clients.run("crane", "push", write_layout(tmp_path / "layout", image), f"{registry.host}/{name}:1")
        return f"{registry.host}/{name}@{image.digest}"

    return push


def test_signatures_and_attestations(
    clients: Clients, registry: Registry, pushed: Callable[[str], str]
) -> None:
    image = pushed("cosign/app")
    name = image.partition("@")[0]
    attested = ("--type", "custom")
    with pytest.raises(ClientError, match="no signatures found"):
        clients.run("cosign", "verify", *VERIFY, image)
    clients.run("cosign", "sign", *SIGN, image)
    clients.run("cosign", "attest", *SIGN, *attested, "--predicate", "predicate.json", image)
    clients.run("cosign", "verify", *VERIFY, image)
    (said,) = clients.run("cosign", "verify-attestation", *VERIFY, *attested, image).splitlines()
    assert json.loads(said)["payload"]
    assert clients.run("crane", "ls", name) == "1", "no tag stands in for the referrers API"
    assert clients.run("cosign", "tree", PLAIN, image).count("artifacts via OCI referrer") == 2
    # What is signed once is so wherever a copy with its referrers goes.
    copied = f"{registry.host}/cosign/copy"
    clients.run("oras", "cp", "-r", "--from-plain-http", "--to-plain-http", f"{name}:1", f"{copied}:1")
    clients.run("cosign", "verify", *VERIFY, f"{copied}:1")
    assert clients.run("crane", "ls", copied) == "1"
    (clients.folder / "cosign.key").unlink()
    (clients.folder / "cosign.pub").unlink()
    clients.run("cosign", "generate-key-pair")
    with pytest.raises(ClientError, match="failed to verify signature"):
        clients.run("cosign", "verify", *VERIFY, image)


def test_the_older_form_is_tags(clients: Clients, pushed: Callable[[str], str]) -> None:
    image = pushed("cosign/older")
    name, _, digest = image.partition("@")
    clients.run("cosign", "sign", OLDER, *SIGN, image)
    clients.run("cosign", "sign", OLDER, *SIGN, "--annotations", "second=one", image)
    attested = ("--type", "custom", "--predicate", "predicate.json")
    clients.run("cosign", "attest", OLDER, *SIGN, *attested, image)
    assert len(json.loads(clients.run("cosign", "verify", OLDER, *VERIFY, image))) == 2
    clients.run("cosign", "verify-attestation", OLDER, *VERIFY, "--type", "custom", image)
    # These tags are what this form of cosign's is; they are no index of referrers.
    tag = digest.replace(":", "-")
    assert clients.run("crane", "ls", name).split() == ["1", f"{tag}.att", f"{tag}.sig"]
    clients.run("cosign", "clean", PLAIN, "--force", "--type", "signature", image)
    assert clients.run("crane", "ls", name).split() == ["1", f"{tag}.att"]


def test_signing_in_and_verifying_without(
    clients: Clients,
    stranger: Clients,
    registry: Registry,
    pushed: Callable[[str], str],
    make_public: Callable[[str], str],
) -> None:
    make_public("public/cosign")
    image = pushed("public/cosign")
    for name in ("cosign.key", "cosign.pub"):
        (stranger.folder / name).write_bytes((clients.folder / name).read_bytes())
    with pytest.raises(ClientError, match="sign in to push public/cosign"):
        stranger.run("cosign", "sign", *SIGN, image)
    stranger.run("cosign", "login", registry.host, "-u", ADMIN, "--password-stdin", stdin=registry.token)
    stranger.run("cosign", "sign", *SIGN, image)
    stranger.sign_out()
    stranger.run("cosign", "verify", *VERIFY, image)
