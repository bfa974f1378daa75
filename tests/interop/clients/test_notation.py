"""notation: signatures as referrers, found and verified by the image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.clients import ClientError, Clients
from tests.kit.images import busybox_image, file, make_layer, write_layout
from tests.kit.server import Registry

ONE = busybox_image(layers=[make_layer(file("n", b"n"))])
HTTP = "--insecure-registry"
POLICY = {
    "version": "1.0",
    "trustPolicies": [
        {
            "name": "all",
            "registryScopes": ["*"],
            "signatureVerification": {"level": "strict"},
            "trustStores": ["ca:seatrial.test"],
            "trustedIdentities": ["*"],
        }
    ],
}


@pytest.mark.parametrize("form", ["jws", "cose"])
def test_sign_list_and_verify(
    clients: Clients, stranger: Clients, make_public: Callable[[str], str], tmp_path: Path, form: str
) -> None:
    layout = write_layout(tmp_path / "layout", ONE)
    clients.run("notation", "cert", "generate-test", "--default", "seatrial.test")
    (clients.folder / "policy.json").write_text(json.dumps(POLICY))
    clients.run("notation", "policy", "import", "policy.json")
    public = make_public(f"public/notation-{form}")
    hidden = public.replace("/public/", "/hidden/")
    for name in (public, hidden):
        image = f"{name}@{ONE.digest}"
        clients.run("crane", "push", layout, f"{name}:1")
        with pytest.raises(ClientError, match="no signature is associated"):
            clients.run("notation", "verify", HTTP, image)
        # It makes a tag of its own unless it is told that there is a list of referrers.
        signing = ("--force-referrers-tag=false", "--signature-format", form)
        clients.run("notation", "sign", HTTP, *signing, image)
        assert "Successfully verified" in clients.run("notation", "verify", HTTP, image)
        assert "application/vnd.cncf.notary.signature" in clients.run("notation", "list", HTTP, image)
        inspected = json.loads(clients.run("notation", "inspect", HTTP, "--output", "json", image))
        assert len(inspected["Signatures"]) == 1, inspected
        assert clients.run("crane", "ls", name) == "1"
        clients.run("notation", "sign", HTTP, "--signature-format", form, image)
        assert clients.run("crane", "ls", name).split() == ["1", ONE.digest.replace(":", "-")]
        listed = json.loads(clients.run("oras", "discover", "--plain-http", "--format", "json", image))
        assert len(listed["referrers"]) == 2
    assert "notary" in stranger.run("notation", "list", HTTP, f"{public}@{ONE.digest}")
    with pytest.raises(ClientError, match="401"):
        stranger.run("notation", "list", HTTP, f"{hidden}@{ONE.digest}")


def test_its_login_asks_the_registry(
    stranger: Clients, registry: Registry, credentials: dict[str, tuple[str, str]]
) -> None:
    """It keeps credentials only with a helper program, of which there is none here."""
    username, password = credentials["password"]
    login = ("notation", "login", HTTP, "--username", username, "--password-stdin", registry.host)
    with pytest.raises(ClientError, match="the credential could not be saved"):
        stranger.run(*login, stdin=password)
    with pytest.raises(ClientError, match="401"):
        stranger.run(*login, stdin="wrong")
