"""``read_only``: what changes content is refused and says why; everything else goes on."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from registry.http.v2.routes import ROUTES
from tests.kit.access import api, ask, basic, make_token, make_user
from tests.kit.distribution import EMPTY_CONFIG, push_image, push_small, start_upload
from tests.kit.images import digest_of
from tests.kit.server import ADMIN, running_registry
from tests.kit.trials import ScriptedWorker, tiny_image, worker_token

PATHS = {
    "manifests": "/v2/team/app/manifests/v1",
    "blobs": f"/v2/team/app/blobs/{digest_of(EMPTY_CONFIG)}",
    "uploads": f"/v2/team/app/blobs/uploads/?mount={digest_of(EMPTY_CONFIG)}&from=team/app",
}


async def test_a_read_only_registry(tmp_path: Path, database_url: str) -> None:
    data = tmp_path / "data"
    async with running_registry(data, database_url) as registry, registry.client() as client:
        await push_small(client, "team/app", "v1")
        digest = await push_image(client, "team/app", "v1", tiny_image())
        upload = await start_upload(client, "team/app")
    async with (
        running_registry(data, database_url, read_only=True, trial_platforms="linux/amd64") as registry,
        registry.client() as client,
    ):
        for route in ROUTES:
            for method in set(route.methods) - {"GET", "HEAD"}:
                answer = await ask(client, method, PATHS.get(route.keyword, upload))
                assert answer.status == 403, (method, route.keyword, answer.body)
                (entry,) = answer.json["errors"]
                assert entry["code"] == "DENIED"
                assert "SEATRIAL_READ_ONLY" in entry["message"]
        this = "/repositories/team%2Fapp"
        requests: tuple[tuple[str, str, dict[str, str] | None], ...] = (
            ("DELETE", f"{this}/tags/v1", None),
            ("POST", f"{this}/tags/v1/rollback", {}),
            ("POST", "/repositories", {"name": "team/new"}),
            ("POST", f"{this}/rename", {"name": "team/new"}),
            ("POST", f"{this}/transfer", {"namespace": "other"}),
            ("DELETE", this, None),
            ("DELETE", "/namespaces/team?with_content=true", None),
        )
        for method, path, body in requests:
            given = {} if body is None else {"json": body}
            assert "SEATRIAL_READ_ONLY" in (await api(client, method, path, status=403, **given))["detail"]
        await reading_goes_on(client, digest)
        assert (await ask(client, "GET", upload)).status == 204, "where an upload stands can be read"
        assert (await ask(client, "GET", "/readyz")).json["read_only"] is True
        await trials_go_on(client, registry.url, digest)
        password = await make_user(client, "maria", password="a long enough password")
        async with registry.client(anonymous=True) as nobody:
            refused = await ask(nobody, "DELETE", PATHS["manifests"], headers=basic("maria", password))
            assert "maria has no delete right" in refused.json["errors"][0]["message"]
            assert (await ask(nobody, "PUT", PATHS["manifests"])).status == 401
    async with running_registry(data, database_url) as registry, registry.client() as client:
        assert (await ask(client, "DELETE", upload)).status == 204, "what was refused changed nothing"
        await push_small(client, "team/app", "v2")


async def reading_goes_on(client: aiohttp.ClientSession, digest: str) -> None:
    for path in ("tags/list", "manifests/v1", f"manifests/{digest}", f"referrers/{digest}"):
        assert (await ask(client, "GET", f"/v2/team/app/{path}")).status == 200, path
    token = (await make_token(client, "repository:*:pull"))["token"]
    assert (await ask(client, "GET", "/v2/", headers=basic(ADMIN, token))).status == 200


async def trials_go_on(client: aiohttp.ClientSession, url: str, digest: str) -> None:
    made = await api(client, "POST", "/trials", status=201, json={"image": f"team/app@{digest}"})
    assert made["digest"] == digest
    headers = {"Authorization": f"Bearer {await worker_token(client, 'worker')}"}
    async with aiohttp.ClientSession(url, headers=headers) as worker_client:
        worker = ScriptedWorker(worker_client, "worker")
        job = await worker.claim()
        assert job["digest"] == digest
        assert (await worker.report(job)).status == 204
    (trial,) = await api(client, "GET", f"/trials?image=team/app&digest={digest}")
    assert trial["verdict"] == "pass"
