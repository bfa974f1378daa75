"""Health, readiness, metrics, request ids, error forms, and what a log never holds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import aiohttp
from sqlalchemy import make_url, text

from registry.db.engine import Database
from tests.kit.access import ask, basic, bearer, make_token, make_user
from tests.kit.distribution import push_blob
from tests.kit.server import Registry, RegistryProcess, running_registry


async def test_ready_only_while_database_and_store_answer(tmp_path: Path, database_url: str) -> None:
    async with running_registry(tmp_path / "data", database_url) as registry, registry.client() as client:
        async with client.get("/healthz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with client.get("/readyz") as response:
            assert response.status == 200
            assert await response.json() == {
                "status": "ok",
                "database": "ok",
                "storage": "ok",
                "read_only": False,
                "audit": "ok",
            }
        folder = tmp_path / "data" / "blobs"
        folder.rename(tmp_path / "away")
        async with client.get("/readyz") as response:
            assert response.status == 503
            assert await response.json() == {
                "status": "unavailable",
                "database": "ok",
                "storage": "unavailable",
                "read_only": False,
                "audit": "ok",
            }
        (tmp_path / "away").rename(folder)
        async with client.get("/readyz") as response:
            assert response.status == 200


async def test_not_ready_without_a_database(tmp_path: Path, make_postgres_url: Callable[[], str]) -> None:
    url = make_postgres_url()
    async with running_registry(tmp_path / "data", url) as registry, registry.client() as client:
        assert registry.services is not None
        database = registry.services.database
        async with database.read() as connection:
            name = (await connection.execute(text("SELECT current_database()"))).scalar_one()
        other = Database(make_url(url).set(database="postgres").render_as_string(hide_password=False))
        async with other._engine.connect() as admin:
            await admin.execution_options(isolation_level="AUTOCOMMIT")
            await admin.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
            await admin.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
                {"name": name},
            )
            async with client.get("/readyz") as response:
                assert response.status == 503
                assert (await response.json())["database"] == "unavailable"
            async with client.get("/healthz") as response:
                assert response.status == 200
            async with client.get("/v2/a/tags/list") as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "5")
                assert (await response.json())["errors"][0]["code"] == "UNAVAILABLE"
            await admin.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
        await other.close()
        async with client.get("/readyz") as response:
            assert response.status == 200


async def test_metrics_have_few_labels(tmp_path: Path, database_url: str) -> None:
    async with running_registry(tmp_path / "data", database_url) as registry, registry.client() as client:
        await push_blob(client, "team/secret-name", b"12345")
        async with client.get("/no/such/thing"):
            pass
        async with client.request("PROPFIND", "/v2/UPPER/tags/list"):
            pass
        async with client.get("/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain")
            lines = (await response.text()).splitlines()
    assert 'seatrial_http_requests_total{method="POST",route="v2:uploads",status="2xx"} 1.0' in lines
    assert 'seatrial_http_requests_total{method="PUT",route="v2:upload",status="2xx"} 1.0' in lines
    assert 'seatrial_http_requests_total{method="GET",route="unmatched",status="4xx"} 1.0' in lines
    assert 'seatrial_http_requests_total{method="other",route="v2:unknown",status="4xx"} 1.0' in lines
    assert 'seatrial_blob_bytes_total{direction="in"} 5.0' in lines
    assert not [line for line in lines if "secret-name" in line]


async def test_metrics_are_for_this_host_and_for_auditors(tmp_path: Path, database_url: str) -> None:
    elsewhere = {"X-Forwarded-For": "203.0.113.9"}
    async with (
        running_registry(tmp_path / "data", database_url, trusted_proxies=("127.0.0.1",)) as registry,
        registry.client() as client,
        registry.client(anonymous=True) as nobody,
    ):
        assert (await ask(nobody, "GET", "/metrics")).status == 200
        refused = await ask(nobody, "GET", "/metrics", headers=elsewhere)
        assert refused.status == 401
        assert b"SEATRIAL_METRICS_NETWORKS" in refused.body
        assert refused.headers["WWW-Authenticate"].startswith("Bearer ")
        for scope, status in (("audit", 200), ("repository:*:pull", 403)):
            token = bearer((await make_token(client, scope))["token"])
            assert (await ask(nobody, "GET", "/metrics", headers=elsewhere | token)).status == status
        bob = basic("bob", await make_user(client, "bob"))
        assert (await ask(nobody, "GET", "/metrics", headers=elsewhere | bob)).status == 403
        wrong = basic("bob", "not the password")
        assert (await ask(nobody, "GET", "/metrics", headers=elsewhere | wrong)).status == 401
    given = {"trusted_proxies": ("127.0.0.1",), "metrics_networks": ("203.0.113.0/24",)}
    async with (
        running_registry(tmp_path / "data", database_url, **given) as registry,
        registry.client(anonymous=True) as nobody,
    ):
        assert (await ask(nobody, "GET", "/metrics", headers=elsewhere)).status == 200
        assert (await ask(nobody, "GET", "/metrics")).status == 401


async def test_errors_have_the_form_that_their_clients_read(tmp_path: Path, database_url: str) -> None:
    async with running_registry(tmp_path / "data", database_url) as registry, registry.client() as client:
        async with client.get("/v2/nothing", headers={"X-Request-Id": "given-1"}) as response:
            assert response.status == 404
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["X-Request-Id"] == "given-1"
            assert [error["code"] for error in (await response.json())["errors"]] == ["NOT_FOUND"]
        async with client.get("/api/v1/nothing", headers={"X-Request-Id": 'bad"id'}) as response:
            assert response.status == 404
            assert response.headers["Content-Type"] == "application/problem+json"
            document = json.loads(await response.read())
            assert (document["status"], document["code"]) == (404, "NOT_FOUND")
            assert document["request_id"] == response.headers["X-Request-Id"] != 'bad"id'
        async with client.delete("/healthz") as response:
            assert response.status == 405
            assert response.headers["Allow"] == "GET,HEAD"
            assert response.headers["Content-Type"] == "application/json"


async def test_a_fault_of_ours_is_told_by_its_id_only(tmp_path: Path, database_url: str) -> None:
    async with running_registry(tmp_path / "data", database_url) as registry, registry.client() as client:
        assert registry.services is not None
        async with registry.services.database.write() as connection:
            await connection.execute(text("DROP TABLE tag_history"))
            await connection.execute(text("ALTER TABLE tags RENAME TO gone"))
        await push_blob(client, "a", b"x")
        async with client.get("/v2/a/tags/list", headers={"X-Request-Id": "fault-7"}) as response:
            assert response.status == 500
            body = await response.text()
    error = json.loads(body)["errors"][0]
    assert error["code"] == "UNKNOWN"
    assert "fault-7" in error["message"]
    assert "tags" not in body
    assert "SELECT" not in body


async def test_logs_are_json_with_ids_and_without_secrets(tmp_path: Path) -> None:
    process = RegistryProcess(tmp_path / "data")
    try:
        registry: Registry = process.start()
        async with registry.client() as client:
            await push_blob(client, "a", b"x")
            async with client.get("/v2/a/tags/list?token=" + registry.token) as response:
                assert response.status == 200
            async with client.get("/token?scope=repository:a:pull") as response:
                bearer = (await response.json())["token"]
        async with registry.client(anonymous=True) as client:
            headers = {"Authorization": f"Bearer {bearer}", "X-Request-Id": "find-me"}
            async with client.get("/v2/a/tags/list", headers=headers) as response:
                assert response.status == 200
            wrong = {"Authorization": aiohttp.encode_basic_auth("admin", "wrong-password-1")}
            async with client.get("/v2/", headers=wrong) as response:
                assert response.status == 401
    finally:
        process.stop()
    logged = process.log.read_text()
    for secret in (registry.token, bearer, "wrong-password-1"):
        assert secret not in logged
    lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line.get("request_id") == "find-me"]
    assert line["event"] == "request"
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v2/a/tags/list", 200)
    assert line["actor"] == "admin"
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")
    requests = [line for line in lines if line.get("event") == "request"]
    assert len({line["request_id"] for line in requests}) == len(requests)


async def test_a_logged_fault_shows_no_local_variables(tmp_path: Path) -> None:
    process = RegistryProcess(tmp_path / "data", log_format="text")
    try:
        registry = process.start()
        with closing(sqlite3.connect(tmp_path / "data" / "seatrial.db", timeout=60)) as database:
            database.execute("ALTER TABLE repositories RENAME TO gone")
        async with registry.client() as client, client.get("/v2/a/tags/list") as response:
            assert response.status == 500
    finally:
        process.stop()
    logged = process.log.read_text()
    assert "Traceback (most recent call last)" in logged
    assert "no such table" in logged
    for secret in (registry.token, "Authorization", "locals"):
        assert secret not in logged
