"""The lines that ``--tls self-signed`` prints, with each client that they are for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.cli.trust import client_lines
from tests.kit.clients import ClientError, Clients, client_home
from tests.kit.containerd import running_containerd
from tests.kit.images import busybox_image, write_layout
from tests.kit.server import ADMIN, Registry, RegistryProcess


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with a certificate of its own."""
    process = RegistryProcess(tmp_path_factory.mktemp("secured") / "data", tls="self-signed")
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
def home(tools: Path, secured: Registry) -> Iterator[Clients]:
    """Clients of the administrator, with a copy of the certificate and an image."""
    assert secured.certificate is not None
    with client_home(tools) as made:
        made.sign_in(secured.host, ADMIN, secured.token)
        (made.folder / "seatrial.pem").write_bytes(secured.certificate.read_bytes())
        write_layout(made.folder / "layout", busybox_image(["/bin/true"]), tag="v1")
        yield made


def lines_for(host: str, client: str) -> list[str]:
    """The lines below the heading that names the client."""
    lines = client_lines(host)
    start = next(i for i, line in enumerate(lines) if re.search(rf"\b{client}\b.*:", line) and line[0] != " ")
    found = []
    for line in lines[start + 1 :]:
        if not line.startswith("  "):
            break
        found.append(line.strip())
    return found


COMMANDS = {
    "crane": "crane push layout {image} && crane digest {image}",
    "regctl": "regctl image copy ocidir://layout:v1 {image} && regctl manifest head {image}",
    "cosign": "cosign tree {image}",
    "oras": "oras cp --from-oci-layout layout:v1 {image} --to-ca-file seatrial.pem "
    "&& oras manifest fetch {given} {image}",
    "helm": "helm create chart >/dev/null && helm package chart >/dev/null && "
    "helm push {given} chart-0.1.0.tgz oci://{host}/charts",
    "skopeo": "skopeo copy oci:layout:v1 docker://{image}",
    "buildah": "buildah pull --storage-driver vfs --root $HOME/s --runroot $HOME/r {image}",
}


@pytest.mark.parametrize("client", COMMANDS)
def test_a_client_with_its_lines(home: Clients, secured: Registry, client: str) -> None:
    image = f"{secured.host}/trust/{client}:v1"
    lines = lines_for(secured.host, client)
    given = " ".join(line for line in lines if line.startswith("--"))
    command = COMMANDS[client].format(image=image, host=secured.host, given=given)
    if client in ("cosign", "buildah"):
        prepare = f"export SSL_CERT_FILE=$PWD/seatrial.pem; crane push layout {image}; unset SSL_CERT_FILE"
        home.run("bash", "-ec", prepare)
    with pytest.raises(ClientError, match=r"x509|certificate"):
        home.run("bash", "-ec", COMMANDS[client].replace("--to-ca-file seatrial.pem", "").format(
            image=image, host=secured.host, given=""))  # fmt: skip
    trusting = "\n".join(line for line in lines if not line.startswith("--"))
    home.run("bash", "-ec", f"{trusting}\n{command}")


def test_containerd_with_its_lines(home: Clients, secured: Registry) -> None:
    if os.geteuid() != 0:
        pytest.skip("containerd needs root")
    image = f"{secured.host}/trust/ctr:v1"
    home.run("bash", "-ec", f"export SSL_CERT_FILE=$PWD/seatrial.pem; crane push layout {image}")
    place = home.folder / "certs.d"
    lines = "\n".join(lines_for(secured.host, "containerd")).replace("/etc/containerd/certs.d", str(place))
    pull = ("images", "pull", "--snapshotter", "native", "--user", f"{ADMIN}:{secured.token}")
    with running_containerd() as containerd:
        with pytest.raises(ClientError, match="400 Bad Request"):  # asked in plain HTTP
            containerd.ctr(*pull, image)
        home.run("bash", "-ec", lines)
        containerd.ctr(*pull, "--hosts-dir", str(place), image)
