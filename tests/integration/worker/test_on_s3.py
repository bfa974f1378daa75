"""The whole way of an image where replicas share nothing but PostgreSQL and S3: push, trial, pull."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.worker.conftest import REPOSITORY, Yard
from tests.kit.clients import client_home
from tests.kit.images import busybox_image, file, make_layer, write_layout
from tests.kit.s3 import S3Server
from tests.kit.server import ADMIN

TLS = "--tls-verify=false"


@pytest.mark.parametrize("redirect", ["off", "on"])
def test_podman_pushes_a_worker_tries_and_podman_pulls(
    make_yard: Callable[..., Yard],
    make_postgres_url: Callable[[], str],
    s3: S3Server,
    tmp_path: Path,
    redirect: str,
) -> None:
    yard = make_yard(
        database_url=make_postgres_url(),
        storage_url=s3.url(redirect=redirect),
        storage_credentials_file=str(s3.credentials),
    )
    yard.worker("one").start()
    image = busybox_image(["/bin/sh", "-c", "cat /note"], layers=[make_layer(file("note", b"ahoy\n"))])
    bad = busybox_image(["/bin/sh", "-c", "exit 3"])
    layout = write_layout(tmp_path / "layout", image, bad, tag=["good", "bad"])
    name = f"{yard.registry.host}/{REPOSITORY}"
    with client_home() as clients:
        login = ("login", TLS, "--username", ADMIN, "--password-stdin", yard.registry.host)
        clients.podman(*login, stdin=yard.registry.token)
        for tag in ("good", "bad"):
            pulled = clients.podman("pull", "--quiet", f"oci:{layout}:{tag}")
            clients.podman("push", "--quiet", TLS, pulled, f"{name}:{tag}")
        trial = yard.verdict("good")
        assert (trial["verdict"], trial["runs"][0]["log"]) == ("pass", "ahoy\n")
        assert yard.verdict("bad")["verdict"] == "fail"
        clients.podman("rmi", "--all", "--force")
        id_ = clients.podman("pull", "--quiet", TLS, f"{name}:good")
        assert json.loads(clients.podman("image", "inspect", id_))[0]["Config"]["Cmd"][-1] == "cat /note"
    assert secrets_told(yard, s3) == []


def secrets_told(yard: Yard, s3: S3Server) -> list[str]:
    """Lines of the log with what opens the bucket: the key, or a signed address."""
    secret = s3.credentials.read_text().split()[-1]
    log = yard.process.log.read_text()
    return [line for line in log.splitlines() if secret in line or "X-Amz-" in line]
