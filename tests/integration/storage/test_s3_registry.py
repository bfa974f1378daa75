"""A registry on PostgreSQL and S3: the whole way of an image, over replicas that share nothing else."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl

from registry.content.uploadledger import DatabaseLedger
from registry.db.engine import Database
from registry.errors import UnavailableError
from registry.settings import SettingsError
from registry.storage.s3 import open_s3
from registry.storage.s3bucket import Bucket
from registry.storage.s3client import make_client, read_credentials
from registry.storage.s3url import parse_s3_url
from tests.kit.blobstore_contract import pattern
from tests.kit.distribution import error_code, push_blob, push_image, start_upload
from tests.kit.faultproxy import fault_proxy
from tests.kit.images import busybox_image, digest_of
from tests.kit.s3 import KEY_ID, SECRET, S3Server
from tests.kit.server import Registry, running_registry


@pytest.fixture
def storage(s3: S3Server) -> dict[str, object]:
    """Settings of a registry on S3, of which each test has a prefix of its own."""
    return {"storage_url": s3.url(), "storage_credentials_file": s3.credentials}


@asynccontextmanager
async def replica(
    first: Registry, first_data: Path, data: Path, database_url: str, **settings: Any
) -> AsyncIterator[Registry]:
    """Another registry on the database and the store of the first, with a data folder of its own."""
    (data / "admin.token").write_text(first.token)
    settings["secret_key_file"] = first_data / "secret.key"
    async with running_registry(data, database_url, **settings) as registry:
        yield registry


async def test_an_upload_goes_from_replica_to_replica(
    storage: dict[str, object], make_postgres_url: Callable[[], str], tmp_path: Path
) -> None:
    database_url = make_postgres_url()
    content = pattern(23 << 20)
    digest = digest_of(content)
    two_data = tmp_path / "two"
    two_data.mkdir()
    async with (
        running_registry(tmp_path / "one", database_url, **storage) as one,
        replica(one, tmp_path / "one", two_data, database_url, **storage) as two,
        one.client() as first,
        two.client(one.token) as second,
    ):
        location = await start_upload(first, "team/app")
        at = 0
        for number, size in enumerate((1, 3 << 20, 11 << 20, 100, 8 << 20)):
            chunk = content[at : at + size]
            headers = {"Content-Range": f"{at}-{at + len(chunk) - 1}"}
            client = (first, second)[number % 2]
            async with client.patch(location, data=io.BytesIO(chunk), headers=headers) as response:
                assert response.status == 202
                at += len(chunk)
                assert response.headers["Range"] == f"0-{at - 1}"
        async with second.get(location) as response:
            assert response.headers["Range"] == f"0-{at - 1}"
        async with second.put(location, params={"digest": digest}, data=io.BytesIO(content[at:])) as response:
            assert response.status == 201
        async with first.get(f"/v2/team/app/blobs/{digest}") as response:
            assert await response.read() == content


async def test_who_may_go_to_the_service_is_sent_there(
    s3: S3Server, database_url: str, tmp_path: Path
) -> None:
    storage = {"storage_url": s3.url(redirect="on"), "storage_credentials_file": s3.credentials}
    image = busybox_image()
    layer = next(content for content in image.blobs().values() if content[:2] == b"\x1f\x8b")
    path = f"/v2/team/app/blobs/{digest_of(layer)}"
    async with (
        running_registry(tmp_path / "data", database_url, **storage) as registry,
        registry.client() as admin,
        registry.client(anonymous=True) as nobody,
        aiohttp.ClientSession() as elsewhere,
    ):
        await push_image(admin, "team/app", "1", image)
        for method, target in (("HEAD", path), ("GET", "/v2/team/app/manifests/1")):
            async with admin.request(method, target, allow_redirects=False) as response:
                assert response.status == 200
        async with nobody.get(path, allow_redirects=False) as response:
            assert response.status == 401
        ranges = {"Range": "bytes=0-1,4-5"}
        async with admin.get(path, headers=ranges, allow_redirects=False) as response:
            assert response.status == 206
        async with admin.get(path, allow_redirects=False) as response:
            assert response.status == 307
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["Docker-Content-Digest"] == digest_of(layer)
            url = yarl.URL(response.headers["Location"], encoded=True)
        assert str(url).startswith(s3.endpoint_url)
        assert registry.token not in str(url)
        async with elsewhere.get(url) as response:
            assert await response.read() == layer
            assert response.headers["Content-Type"] == "application/octet-stream"
            assert response.headers["Content-Disposition"] == "attachment"
        async with elsewhere.get(url, headers={"Range": "bytes=1-3"}) as response:
            assert (response.status, await response.read()) == (206, layer[1:4])


async def test_a_service_that_is_too_busy_is_told_and_the_upload_goes_on(
    s3: S3Server, database_url: str, tmp_path: Path
) -> None:
    content = pattern(7 << 20)
    digest = digest_of(content)
    with fault_proxy(s3.endpoint_url.removeprefix("http://")) as proxy:
        url = s3.url(endpoint_url=f"http://{proxy.host}", attempts=1)
        storage = {"storage_url": url, "storage_credentials_file": s3.credentials}
        async with (
            running_registry(tmp_path / "data", database_url, **storage) as registry,
            registry.client() as admin,
        ):
            location = await start_upload(admin, "team/app")
            for call in ("UploadPart", "PutObject"):
                proxy.break_always("SlowDown", call)
                async with admin.patch(location, data=io.BytesIO(content)) as response:
                    assert response.status == 503
                    assert response.headers["Retry-After"] == "5"
                    assert error_code(await response.read()) == "UNAVAILABLE"
                    at = int(response.headers["Range"].partition("-")[2])
                proxy.heal()
            async with admin.get(location) as response:
                assert response.headers["Range"] == f"0-{at}"
            start = at + 1 if at else 0
            async with admin.patch(location, data=io.BytesIO(content[start:])) as response:
                assert response.status == 202
            proxy.break_always("refuse", "CompleteMultipartUpload")
            async with admin.put(location, params={"digest": digest}) as response:
                assert response.status == 503
            async with admin.head(f"/v2/team/app/blobs/{digest}") as response:
                assert response.status == 404
            proxy.heal()
            async with admin.put(location, params={"digest": digest}) as response:
                assert response.status == 201
            proxy.break_always("SlowDown", "GetObject")
            async with admin.get(f"/v2/team/app/blobs/{digest}") as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "5")
            proxy.heal()
            async with admin.get(f"/v2/team/app/blobs/{digest}") as response:
                assert await response.read() == content


async def test_a_blob_that_the_service_has_lost(
    s3: S3Server, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = s3.url()
    storage = {"storage_url": url, "storage_credentials_file": s3.credentials}
    async with (
        running_registry(tmp_path / "data", database_url, **storage) as registry,
        registry.client() as admin,
    ):
        digest = await push_blob(admin, "team/app", b"content")
        prefix = parse_s3_url(url).prefix.rstrip("/")
        (key,) = s3.keys(prefix)
        with closing(s3.client()) as client:
            client.delete_object(Bucket=s3.bucket(), Key=f"{prefix}/{key}")
        async with admin.get(f"/v2/team/app/blobs/{digest}") as response:
            assert (response.status, error_code(await response.read())) == (404, "BLOB_UNKNOWN")
    assert "the store does not have a blob that it should" in capsys.readouterr().out


def written_keys(tmp_path: Path, *, key: str = KEY_ID, secret: str = SECRET) -> Path:
    keys = tmp_path / "keys"
    keys.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key={secret}\n")
    return keys


@pytest.fixture
async def ledger(ledger_url: str) -> AsyncIterator[DatabaseLedger]:
    database = Database(ledger_url)
    yield DatabaseLedger(database)
    await database.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bucket": "no-such-bucket"}, "there is no such bucket (NoSuchBucket)"),
        ({"secret": "wrong-and-not-to-be-shown"}, "the secret key is wrong (SignatureDoesNotMatch)"),
        ({"key": "nobody"}, "the service does not know the access key (InvalidAccessKeyId)"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "nothing answers there"),
        ({"hours": "2"}, "differ too much (RequestTimeTooSkewed)"),
    ],
)
async def test_what_is_wrong_with_a_store_is_said(
    *,
    s3: S3Server,
    ledger: DatabaseLedger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    said: str,
) -> None:
    if "hours" in change:
        ahead = datetime.now(UTC) + timedelta(hours=2)
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: ahead)
    url = s3.url(attempts=1, endpoint_url=change.get("endpoint_url", s3.endpoint_url))
    url = url.replace(s3.bucket(), change.get("bucket", s3.bucket()))
    keys = written_keys(tmp_path, **{name: change[name] for name in ("key", "secret") if name in change})
    with pytest.raises(SettingsError) as refused:
        await open_s3(url, credentials_file=keys, ledger=ledger, folder=tmp_path / "spool")
    assert said in refused.value.message
    assert refused.value.message.startswith("storage_url: ")
    for secret in (SECRET, "not-to-be-shown"):
        assert secret not in str(traceback.format_exception(refused.value))


class Elsewhere(BaseHTTPRequestHandler):
    """What stands before a service and wants TLS."""

    def answer(self) -> None:
        self.send_response(301)
        self.send_header("Location", f"https://{self.headers['Host']}{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = answer  # noqa: N815  (the base class wants them so)

    def log_message(self, *_: object) -> None:
        """Nothing."""


async def test_a_service_that_redirects_is_not_followed(
    s3: S3Server, ledger: DatabaseLedger, tmp_path: Path
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = s3.url(attempts=1, endpoint_url=f"http://127.0.0.1:{server.server_port}")
            with pytest.raises(SettingsError, match="redirects to another address"):
                await open_s3(url, credentials_file=s3.credentials, ledger=ledger, folder=tmp_path / "spool")
            location, keys = parse_s3_url(url), read_credentials(s3.credentials)
            with closing(make_client(location, keys, endpoint_url=location.endpoint_url)) as client:
                bucket = Bucket(client, location)
                for call in (bucket.ping, lambda: bucket.size("key"), lambda: bucket.get("key")):
                    with pytest.raises(UnavailableError):
                        call()
        finally:
            server.shutdown()


@pytest.mark.parametrize("content", ["", "nothing", f"[other]\naws_access_key_id={KEY_ID}\n", "\xff"])
def test_a_file_that_has_no_credentials(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys").write_text(content, encoding="latin-1")
    with pytest.raises(SettingsError, match=r"must have a section \[default\]"):
        read_credentials(tmp_path / "keys")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_credentials(tmp_path / "none")
    assert SECRET not in repr(read_credentials(written_keys(tmp_path)))


def test_a_store_that_cannot_be_used_ends_the_start(s3: S3Server, tmp_path: Path) -> None:
    keys = written_keys(tmp_path, secret="wrong-and-not-to-be-shown")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "registry.main", "serve"),
            *("--data", tmp_path / "data", "--listen", "127.0.0.1:0"),
        ],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "SEATRIAL_STORAGE_URL": s3.url(),
            "SEATRIAL_STORAGE_CREDENTIALS_FILE": str(keys),
        },
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "the secret key is wrong" in done.stderr
    assert "Traceback" not in done.stderr
    assert "not-to-be-shown" not in done.stdout + done.stderr
