"""What an image was built on, and what is built on it: by the layers, among what the asker may pull."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from sqlalchemy import delete, update

from registry.auth.policy import HIDDEN
from registry.content import chains
from registry.db.content import chain_prefixes, manifests, repositories
from registry.http.sweeps import sweep
from tests.kit.access import api, ask, give_role, make_user
from tests.kit.advisories import affects, filed, record
from tests.kit.images import Image, Layer, file, make_image, make_index, make_layer
from tests.kit.matching import caught_up
from tests.kit.porting import command
from tests.kit.scans import SCANNING, make_found, make_package, make_scan
from tests.kit.trials import Port

NAMED = "org.opencontainers.image.base"


def layer(name: str) -> Layer:
    return make_layer(file(name, name.encode()))


def built(*layers: Layer, **members: Any) -> Image:
    return make_image(*layers, config={"Cmd": ["/app"], **members})


def address(repository: str, digest: str, what: str = "bases") -> str:
    return f"/repositories/{repository.replace('/', '%2F')}/{what}/{digest}"


async def test_a_base_is_the_image_with_the_most_of_the_lowest_layers(port: Port) -> None:
    one, two, three, four = (layer(name) for name in ("one", "two", "three", "four"))
    small = await port.push(built(one), repository="base/small", tag="12")
    large = await port.push(built(one, two), repository="base/large", tag="1")
    copy = await port.push(built(one, two, Env=["A=b"]), repository="base/copy", tag="1")
    claims = {f"{NAMED}.name": "docker.io/library/debian:12", f"{NAMED}.digest": copy}
    app = await port.push(built(one, two, three), repository="team/app")
    claiming = await port.push(built(one, two, four, Labels=claims), repository="team/claiming")
    other = await port.push(built(two, one), repository="team/other")

    async def base(repository: str, digest: str, client: Any = None) -> Any:
        (found,) = await api(client or port.admin, "GET", address(repository, digest))
        assert (found["digest"], found["platform"], found["is_known"]) == (digest, "linux/amd64", True)
        return found

    found = await base("team/app", app)
    assert found["base"] == {
        "repository": "base/large", "digest": large, "layers": 2, "tags": ["1"], "moved": []
    }  # fmt: skip
    assert (found["claimed_name"], found["claimed_digest"]) == (None, None)
    # Of several that are as much of it, the one that it names; the name stays a claim.
    found = await base("team/claiming", claiming)
    assert (found["base"]["repository"], found["base"]["digest"]) == ("base/copy", copy)
    assert (found["claimed_name"], found["claimed_digest"]) == (claims[f"{NAMED}.name"], copy)
    # The same layers in another order are another chain, and nothing is its own base.
    assert (await base("team/other", other))["base"] is None
    assert (await base("base/large", large))["base"]["repository"] == "base/small"
    assert (await base("base/small", small))["base"] is None

    # What is built on it, at any depth, the last pushed first.
    async def children(repository: str, digest: str, client: Any = None) -> list[tuple[str, int]]:
        found, cursor = [], None
        while True:
            asked = {"limit": "2"} | ({} if cursor is None else {"cursor": cursor})
            path = address(repository, digest, "children")
            page = await api(client or port.admin, "GET", path, params=asked)
            found += [(one["repository"], one["layers"]) for one in page["items"]]
            if (cursor := page["next"]) is None:
                return found

    assert await children("base/small", small) == [
        ("team/claiming", 1), ("team/app", 1), ("base/copy", 1), ("base/large", 1)
    ]  # fmt: skip
    assert await children("base/large", large) == [("team/claiming", 2), ("team/app", 2)]
    assert await children("team/app", app) == []
    await api(port.admin, "GET", address("base/small", small, "children"), params={"cursor": "x"}, status=400)

    # Nobody is told of what he may not pull: the next smaller one is the base then.
    password = await make_user(port.admin, "ned")
    for name in ("base/small", "team/app"):
        await give_role(port.admin, name, "user:ned", "reader")
    async with port.registry.client(password, user="ned") as ned:
        found = await base("team/app", app, ned)
        assert (found["base"]["repository"], found["base"]["layers"]) == ("base/small", 1)
        assert await children("base/small", small, ned) == [("team/app", 1)]
        refused = await ask(ned, "GET", f"/api/v1{address('base/large', large, 'children')}")
        assert refused.status in (403, 404)

    # Where the policy refuses what the database finds, as copies of another registry's images, likewise.
    def renamed(old: str, new: str) -> Any:
        return update(repositories).where(repositories.c.name == old).values(name=new)

    async with port.database.write() as connection:
        await connection.execute(renamed("base/large", f"base/{HIDDEN}large"))
    found = await base("team/app", app)
    assert (found["base"]["repository"], found["base"]["tags"]) == ("base/copy", ["1"])
    async with port.database.write() as connection:
        await connection.execute(renamed(f"base/{HIDDEN}large", "base/large"))

    # A tag that has gone elsewhere since.
    newer = await port.push(built(four), repository="base/large", tag="1")
    assert (await base("team/app", app))["base"]["moved"] == []  # It is base/copy now, which has its tag.
    await api(port.admin, "DELETE", f"/repositories/{'base/copy'.replace('/', '%2F')}", status=204)
    found = await base("team/app", app)
    assert (found["base"]["digest"], found["base"]["tags"]) == (large, [])
    assert found["base"]["moved"] == [{"name": "1", "digest": newer}]
    shown = await command(port, "image", "show", "team/app:1")
    assert f"base/large@{large}" in shown
    assert f"base/large:1 is {newer} now" in shown
    assert "docker.io/library/debian:12@" in await command(port, "image", "show", "team/claiming:1")
    assert "none that is here" in await command(port, "image", "show", f"base/small@{small}")
    listed = json.loads(await command(port, "image", "children", "base/small:12", "--json", "--limit", "1"))
    assert [one["repository"] for one in listed] == ["team/claiming"]


async def test_what_came_with_the_base_is_told_apart(port: Port) -> None:
    one, two = layer("one"), layer("two")
    worker = await port.worker("w")
    for repository, image in (("team/base", built(one)), ("team/app", built(one, two))):
        digest = await port.push(image, repository=repository)
        job = await worker.claim(mechanisms=SCANNING)
        layers = [{"diff_id": at.diff_id} for at in image.layers]
        last = len(layers) - 1
        packages = [
            make_package("base"),
            make_package("own", layer=last),
            make_package("owned", owned_by="base"),
        ]
        told = [
            {"scanner": "trivy", "id": f"CVE-2099-{n}", "package": n, "severity": "high"} for n in range(2)
        ]
        scan = make_scan(
            job,
            *packages,
            found=[make_found(), make_found(rule="own", layer=last), make_found(rule="whole", layer=None)],
            layers=layers,
            reported=told,
            others=[{"name": "trivy", "image": f"x@{digest}", "state": "complete"}],
        )
        assert (await worker.post("scan", scan)).status == 204
        assert (await worker.report(job)).status == 204
    file = port.registry.services.settings.advisories_file
    file.parent.mkdir()
    every = [
        record(f"DEBIAN-CVE-2026-{n}", affects("Debian:12", name, "introduced=0"), upstream=[f"CVE-2026-{n}"])
        for n, name in enumerate(("base", "own"))
    ]
    filed(file, *every)[0].close()
    await caught_up(port.database, file)

    async def names(key: str, *arguments: str) -> list[str]:
        return sorted(one[key] for one in json.loads(await command(port, "image", *arguments, "--json")))

    assert await names("name", "packages", "team/app:1") == ["base", "own", "owned"]
    assert await names("name", "packages", "team/app:1", "--own") == ["own"]
    assert await names("name", "packages", "team/app:1", "--base") == ["base", "owned"]
    own = ["CVE-2026-1", "CVE-2099-1", "own"]
    of_base = ["CVE-2026-0", "CVE-2099-0", "github-token"]
    # What lies in no layer is no base's.
    assert await names("id", "findings", "team/app:1", "--own") == [*own, "whole"]
    assert await names("id", "findings", "team/app:1", "--base") == of_base
    found = json.loads(await command(port, "image", "findings", "team/app:1", "--json"))
    assert {one["id"]: one.get("from_base") for one in found} == {
        **dict.fromkeys(own, False), **dict.fromkeys(of_base, True), "whole": None
    }  # fmt: skip
    heads = [line.split() for line in (await command(port, "image", "findings", "team/app:1")).splitlines()]
    assert (heads[0][-2:], sorted(line[-1] for line in heads[1:])) == (
        ["FROM", "BASE"], ["-", "no", "no", "no", "yes", "yes", "yes"]
    )  # fmt: skip
    # A page of one has what follows it, whatever is left out between.
    path = address("team/app", digest, "scans")
    asked = {"limit": "1", "from_base": "true"}
    first = await api(port.admin, "GET", f"{path}/packages", params=asked)
    second = await api(port.admin, "GET", f"{path}/packages", params=asked | {"cursor": first["next"]})
    assert [one["name"] for page in (first, second) for one in page["items"]] == ["base", "owned"]
    assert second["next"] is None

    # Reports say the same, and SBOMs, which are the same for everybody, nothing of it.
    report = json.loads(await command(port, "image", "report", "team/app:1", "--json"))
    (base,) = await api(port.admin, "GET", address("team/app", digest))
    assert report["base"] == {name: base["base"][name] for name in ("repository", "digest", "layers")}
    assert {one["id"]: one["from_base"] for one in report["vulnerabilities"]} == {
        "CVE-2026-0": True, "CVE-2026-1": False, "CVE-2099-0": True, "CVE-2099-1": False
    }  # fmt: skip
    (run,) = json.loads(await command(port, "image", "report", "team/app:1", "--format", "sarif"))["runs"]
    told = {one["ruleId"].rpartition("/")[2]: one["properties"].get("fromBase") for one in run["results"]}
    assert told == {**dict.fromkeys(own, False), **dict.fromkeys(of_base, True), "whole": None}
    said = await command(port, "image", "report", "team/app:1")
    assert f"built on team/base@{base['base']['digest']}: its lowest 1 of 2 layers\n" in said
    assert "4 vulnerabilities, 2 of them from its base:\n" in said
    assert "(layer 0 of its base)" in said
    # Where no base is known, all is not taken for the image's own.
    refused = await command(port, "image", "findings", "team/base:1", "--own", code=2)
    assert "no base of team/base@" in refused
    await command(port, "image", "packages", "team/app:1", "--own", "--base", code=64)
    # Nobody is told of a base that he may not pull.
    password = await make_user(port.admin, "ned")
    await give_role(port.admin, "team/app", "user:ned", "writer")
    async with port.registry.client(password, user="ned") as ned:
        page = await api(ned, "GET", f"{path}/vulnerabilities")
        assert [one["from_base"] for one in page["items"]] == [None, None]
        answer = await ask(ned, "GET", f"/api/v1{path}/found", params={"from_base": "true"})
        assert (answer.status, "nothing can be told apart" in answer.json["detail"]) == (404, True)
        assert (await api(ned, "GET", f"{path}/report"))["base"] is None


async def test_images_of_an_older_version_are_looked_at_later(port: Port) -> None:
    one, two = layer("first"), layer("second")
    base, app = built(one), built(one, two)
    lying = make_image(one, two, config={"Cmd": ["/app"]}, document={"rootfs": {"type": "layers"}})
    index = make_index(base, make_image(two, config={"Cmd": ["/app"]}, platform="linux/arm64"))
    await port.push(index, repository="team/base")
    digest = await port.push(app)
    # What does not say as many layers as it has says nothing.
    without = await port.push(lying, repository="team/lying")
    (found,) = await api(port.admin, "GET", address("team/lying", without))
    assert (found["is_known"], found["base"]) == (False, None)

    async with port.database.write() as connection:
        await connection.execute(update(manifests).values(chain_id=None))
        await connection.execute(delete(chain_prefixes))
    (found,) = await api(port.admin, "GET", address("team/app", digest))
    assert (found["is_known"], found["base"]) == (False, None)
    services = port.registry.services
    assert services is not None
    await asyncio.gather(sweep(services), sweep(services))
    (found,) = await api(port.admin, "GET", address("team/app", digest))
    # Its tag names the index that lists it.
    assert found["base"] == {
        "repository": "team/base", "digest": base.digest, "layers": 1, "tags": ["1"], "moved": []
    }  # fmt: skip
    assert len(await api(port.admin, "GET", address("team/base", index.digest))) == 2
    children = await api(port.admin, "GET", address("team/base", index.digest, "children"))
    assert [child["digest"] for child in children["items"]] == [digest]
    # Nothing is left to do, and then nothing is written.
    assert await chains.learn_missing(port.database, services.blobs) == 0
