"""The distribution-spec's own program: nothing failed, nothing skipped, and all the cases of a full run."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.postgres import PostgresServer
from tests.kit.s3 import S3Server, running_versitygw
from tests.kit.server import ADMIN, Registry, RegistryProcess

pytestmark = pytest.mark.timeout(600)  # a thousand requests, on two stacks
CASES = {"1.1": 860, "dev": 986, "sparse": 1032}
"""Checks of a full run; ``sparse`` is ``dev`` with manifests whose content is not all there."""


GATE = {"gate": "enforce", "trial_on_push": "true"}


@pytest.fixture(scope="module")
def versitygw(tools: Path) -> Iterator[S3Server]:
    """An S3 service."""
    with running_versitygw(tools / "versitygw") as server:
        yield server


@pytest.fixture(params=["sqlite and a folder", "postgresql and s3"])
def stack(request: pytest.FixtureRequest) -> tuple[str | None, dict[str, str]]:
    """Address of the database, and the other settings that say where things are kept."""
    if request.param == "sqlite and a folder":
        return None, {}
    database: PostgresServer = request.getfixturevalue("postgres")
    store: S3Server = request.getfixturevalue("versitygw")
    return database.url(database.create()), {
        "storage_url": store.url(),
        "storage_credentials_file": str(store.credentials),
    }


@pytest.fixture(params=[{}, GATE], ids=["without the gate", "with the gate"])
def conforming(
    request: pytest.FixtureRequest, stack: tuple[str | None, dict[str, str]], tmp_path: Path
) -> Iterator[Registry]:
    """The real ``seatrial serve`` on each stack, which takes images that are not all there."""
    database_url, settings = stack
    process = RegistryProcess(
        tmp_path / "registry", database_url, sparse_images="true", **settings, **request.param
    )
    yield process.start()
    process.stop()


@pytest.mark.parametrize("version", ["1.1", "dev"])
def test_as_it_is_installed(tools: Path, registry: Registry, tmp_path: Path, version: str) -> None:
    run_all(tools, registry, tmp_path, version)


def test_all_there_is(tools: Path, conforming: Registry, tmp_path: Path) -> None:
    run_all(tools, conforming, tmp_path, "sparse")


def run_all(tools: Path, registry: Registry, folder: Path, version: str) -> None:
    """Run it, and hold what it counted against a full run."""
    done = subprocess.run(
        [tools / "conformance"],
        env={
            "OCI_REGISTRY": registry.host,
            "OCI_TLS": "disabled",
            "OCI_REPO1": "conformance/one",
            "OCI_REPO2": "conformance/two",
            "OCI_VERSION": "dev" if version == "sparse" else version,
            "OCI_DATA_SPARSE": str(version == "sparse").lower(),
            "OCI_USERNAME": ADMIN,
            "OCI_PASSWORD": registry.token,
            "OCI_LOG": "error",
            "OCI_RESULTS_DIR": str(folder / "results"),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    # It exits with 0 also when it could not start, and when it skipped: only the counts tell.
    counts = dict(re.findall(r"^ +(Pass|FAIL|Skip|Error)\.+: +(\d+)$", done.stdout, re.MULTILINE))
    failed = "\n".join(line for line in done.stdout.splitlines() if line.endswith((": FAIL", ": Skip")))
    assert counts == {"Pass": str(CASES[version]), "FAIL": "0", "Skip": "0", "Error": "0"}, (
        failed + done.stdout[-2000:] + done.stderr[-2000:]
    )
