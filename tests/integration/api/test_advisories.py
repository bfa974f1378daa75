"""``/api/v1/advisories`` and the metrics: what is there, how old it is, another file."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.advisories.building import build
from tests.kit.access import ask, bearer
from tests.kit.advisories import affects, incoming, record
from tests.kit.server import running_registry


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_standing_of_advisories_is_told(tmp_path: Path, database_url: str) -> None:
    data = tmp_path / "data"
    path = data / "advisories" / "advisories.sqlite"
    one = record("X-1", affects("npm", "a", "introduced=0"))
    async with running_registry(data, database_url) as registry, registry.client(anonymous=True) as client:
        headers = bearer(registry.token)

        async def told() -> tuple[object, dict[str, str]]:
            answer = await ask(client, "GET", "/api/v1/advisories", headers=headers)
            assert answer.status == 200
            async with client.get("/metrics") as response:
                lines = [line.split() for line in (await response.text()).splitlines()]
            return answer.json, {
                name[0]: name[1] for name in lines if name[0].startswith("seatrial_advisories")
            }

        assert (await ask(client, "GET", "/api/v1/advisories")).status == 401
        missing = {
            "problem": "there is no file of advisories",
            "generation": None,
            "sources": [],
            "matching": None,
        }
        nothing = {"seatrial_advisories_sources": "0.0", "seatrial_advisories_age_seconds": "0.0"}
        assert await told() == (missing, nothing)
        build(path, [incoming("own", one, None, fixed_only=True)])
        body, metrics = await told()
        assert isinstance(body, dict)
        assert body["problem"] is None
        assert str(body["generation"]).startswith("sha256:")
        assert body["sources"] == [
            {
                "name": "own",
                "format": "osv",
                "records": 1,
                "informational": 0,
                "skipped": 1,
                "fixed_only": True,
                "licence": "CC0-1.0",
                "as_of": "2026-11-24T00:00:00Z",
                "newest_at": "2026-01-02T03:04:05Z",
            }
        ]
        assert metrics["seatrial_advisories_sources"] == "1.0"
        assert float(metrics["seatrial_advisories_age_seconds"]) > 0
        build(path, [incoming("other", one)])
        body, _ = await told()
        assert isinstance(body, dict)
        assert [source["name"] for source in body["sources"]] == ["other", "own"]
        path.write_bytes(b"damaged")
        body, metrics = await told()
        assert isinstance(body, dict)
        assert body["problem"] == "the file of advisories cannot be read"
        assert metrics == nothing
