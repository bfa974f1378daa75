"""Plays the operations of ``tests.kit.model`` over HTTP, and looks at all that can be seen afterwards."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import aiohttp
from sqlalchemy import exists, select

from registry.content import quarantine
from registry.db.content import blob_links, blobs
from registry.db.engine import Database
from tests.kit.collecting import collect
from tests.kit.images import digest_of
from tests.kit.model import KEEPING, Actor, Answer, Op
from tests.kit.modelcontents import BLOBS, KEYS, PARTS, SLOTS, SUBJECTS, UPLOADED, Contents
from tests.kit.modelstate import POLICY, AllShown, Session, Shown, State
from tests.kit.retention import age, carry_out, items_of

Clients = Mapping[Actor, Sequence[aiohttp.ClientSession]]
_NO_SESSION = "0" * 32


class Player:
    """Plays with the contents of one seed. Requests of one actor go to each of its clients in turn, which may
    be those of several replicas. In ``database`` time passes, and blobs come to be damaged."""

    def __init__(self, clients: Clients, contents: Contents, database: Database | None = None) -> None:
        self.contents = contents
        self.database = database
        self.locations: dict[int, str] = {}
        self.clients = clients
        self._with_policy: set[str] = set()
        self._turn = 0
        self._by_digest = {item.digest: key for key, item in contents.items.items()}
        self._by_raw = {item.raw: key for key, item in contents.items.items()}
        self._blobs = {content: i for i, content in enumerate(contents.blobs)}

    async def do(self, op: Op) -> Answer:
        """Do it, and say what was answered."""
        if op.kind == "catalog":
            return await self._catalog(op)
        if op.kind == "collect":
            return await self._collect(op)
        name = self.contents.name(op.repo)
        if op.kind in KEEPING:
            return await self._keep(op, name)
        match op.kind:
            case "push-blob":
                return await self._push(op, name)
            case "mount":
                return await self._mount(op, name)
            case "start":
                status, headers, _ = await self._ask(op, "POST", f"/v2/{name}/blobs/uploads/")
                if status == 202:
                    self.locations[op.slot] = headers["Location"]
                return (status,)
            case "append" | "status" | "finish" | "cancel":
                return await self._session(op)
            case "put-tag" | "put-manifest":
                return await self._put(op, name)
            case "visibility":
                body = {"visibility": op.visibility}
                status, _, _ = await self._ask(op, "PATCH", f"/api/v1/repositories/{name}", json=body)
                return (status,)
            case "delete-blob" | "delete-tag" | "delete-manifest":
                return await self._delete(op, name)
        return await self._read(op, name)

    async def look(self, before: State) -> AllShown:
        """All that can be seen now. ``before`` says which slots to ask about and who they belong to.

        A tag that leads nowhere, a blob with other bytes, a list that says something else than its parts: all
        of these raise.
        """
        repos = await asyncio.gather(*(self._look_into(number) for number in range(2)))
        sessions: list[Session | None] = []
        for slot in SLOTS:
            session = before.sessions[slot]
            answer = await self.do(Op("status", slot=slot))
            assert answer[0] in (204, 404), answer
            if answer[0] == 404:
                sessions.append(None)
            else:
                assert session is not None, f"slot {slot} has come back to life"
                offset = answer[1]
                assert isinstance(offset, int)
                sessions.append(Session(session.repo, offset))
        return AllShown((repos[0], repos[1]), (sessions[0], sessions[1]))

    async def _look_into(self, number: int) -> Shown:
        name = self.contents.name(number)
        status, _, body = await self._ask(Op("show"), "GET", f"/api/v1/repositories/{name}")
        if status == 404:
            return Shown()
        assert status == 200, (status, body)
        visibility = json.loads(body)["visibility"]
        blobs = await self._held(number, "blob", BLOBS)
        manifests = await self._held(number, "key", KEYS)
        _, names = await self.do(Op("tags", number))
        assert isinstance(names, tuple)
        tags = set()
        for tag, (status, *key) in await self._all(Op("get-tag", number, tag=tag) for tag in names):
            assert status == 200, f"{name}:{tag.tag} is listed and leads nowhere"
            assert key[0] in manifests, f"{name}:{tag.tag} shows {key[0]}, which has no digest there"
            tags.add((tag.tag, str(key[0])))
        order: list[str] = []
        for _, (_, about) in await self._all(Op("referrers", number, key=key) for key in SUBJECTS):
            assert isinstance(about, tuple)
            order += [key for key, _ in about]
        items = self.contents.items
        assert {key for key in manifests if items[key].subject} == set(order), (
            "referrers differ from manifests"
        )
        return Shown(visibility, blobs, manifests, tuple(order), frozenset(tags))

    async def _held(self, number: int, kind: str, contents: Iterable[Any]) -> frozenset[Any]:
        reads = "get-blob" if kind == "blob" else "get-manifest"
        answers = await self._all(Op(reads, number, **{kind: content}) for content in contents)
        for op, answer in answers:
            assert answer in ((200, getattr(op, kind)), (404,)), (op, answer)
        return frozenset(getattr(op, kind) for op, answer in answers if answer[0] == 200)

    async def _all(self, ops: Iterable[Op]) -> list[tuple[Op, Answer]]:
        return await at_once(self, list(ops))

    async def _read(self, op: Op, name: str) -> Answer:
        match op.kind:
            case "get-blob":
                digest = digest_of(self.contents.blobs[op.blob])
                status, _, body = await self._ask(op, "GET", f"/v2/{name}/blobs/{digest}")
                return (status, self._blobs.get(body, body[:80])) if status == 200 else (status,)
            case "get-tag" | "get-manifest":
                reference = op.tag or self.contents.items[op.key].digest
                status, headers, body = await self._ask(op, "GET", f"/v2/{name}/manifests/{reference}")
                if status != 200:
                    return (status,)
                key = self._by_raw.get(body, "")
                assert key, f"no manifest of ours: {body[:80]!r}"
                item = self.contents.items[key]
                assert headers["Docker-Content-Digest"] == item.digest
                assert headers["Content-Type"] == item.media_type
                return (status, key)
            case "tags":
                status, _, body = await self._ask(op, "GET", f"/v2/{name}/tags/list")
                return (status, tuple(json.loads(body)["tags"])) if status == 200 else (status,)
        digest = self.contents.items[op.key].digest
        status, _, body = await self._ask(op, "GET", f"/v2/{name}/referrers/{digest}")
        if status != 200:
            return (status,)
        found = []
        for entry in json.loads(body)["manifests"]:
            key = self._by_digest.get(entry["digest"], entry["digest"])
            assert entry["annotations"] == {"key": f"{self.contents.seed} {key}"}
            found.append((key, entry.get("artifactType")))
        return (status, tuple(found))

    async def _catalog(self, op: Op) -> Answer:
        names: list[str] = []
        path: str | None = f"/v2/_catalog?n=1&last={self.contents.prefix}"
        while path:
            status, headers, body = await self._ask(op, "GET", path)
            if status != 200:
                return (status,)
            page = json.loads(body)["repositories"]
            names += [name for name in page if name.startswith(f"{self.contents.prefix}-")]
            link = headers.get("Link", "")
            path = link.partition(">")[0].removeprefix("<") if page == names[-1:] and link else None
        return (200, tuple(names))

    async def _delete(self, op: Op, name: str) -> Answer:
        match op.kind:
            case "delete-blob":
                path = f"blobs/{digest_of(self.contents.blobs[op.blob])}"
            case "delete-tag":
                path = f"manifests/{op.tag}"
            case _:
                path = f"manifests/{self.contents.items[op.key].digest}"
        return (await self._ask(op, "DELETE", f"/v2/{name}/{path}"))[:1]

    async def _keep(self, op: Op, name: str) -> Answer:
        match op.kind:
            case "older":
                return await self._age(op.days)
            case "damage":
                return await self._damage(op.blob)
            case "retain":
                return await self._retain(op, name)
            case "undo":
                return await self._undo(op, name)
            case "quota":
                change = {"on": name, "tags": op.most}
                return (await self._ask(op, "PATCH", "/api/v1/quota", json=change))[:1]
        path = f"/api/v1/repositories/{name}/tags/{op.tag}/restore"
        return (await self._ask(op, "POST", path, json={}))[:1]

    async def _age(self, days: int) -> Answer:
        assert self.database is not None
        await age(self.database, days, of=[self.contents.name(number) for number in range(2)])
        return (200,)

    async def _damage(self, blob: int) -> Answer:
        assert self.database is not None
        linked = exists().where(blob_links.c.blob_id == blobs.c.id)
        query = select(blobs.c.id, blobs.c.locator).where(
            blobs.c.digest == digest_of(self.contents.blobs[blob]), linked
        )
        async with self.database.read_once() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            return (404,)
        await quarantine.put_in(self.database, row.id, locator=row.locator, damage="digest")
        return (200,)

    async def _retain(self, op: Op, name: str) -> Answer:
        """What the run has deleted, in that order: tags with what they named, and manifests."""
        if name not in self._with_policy:
            status, _, _ = await self._ask(op, "PUT", "/api/v1/retention", json={"on": name, **POLICY})
            if status != 200:
                return (status,)
            self._with_policy.add(name)
        client = self._client(op.actor)
        run = await carry_out(client, name)
        assert run["outcome"] == "done", run
        items = await items_of(client, run)
        return (200, tuple((item["tag"] or "", self._by_digest[item["digest"]]) for item in items))

    async def _undo(self, op: Op, name: str) -> Answer:
        """Of the last run: how much came back, and how much could not."""
        runs = {"on": name, "limit": "1"}
        status, _, body = await self._ask(op, "GET", "/api/v1/retention/runs", params=runs)
        if status != 200 or not (found := json.loads(body)["items"]):
            return (404,)
        path = f"/api/v1/retention/runs/{found[0]['id']}/undo"
        status, _, body = await self._ask(op, "POST", path)
        if status != 200:
            return (status,)
        undone = json.loads(body)
        assert undone["left"] == 0, undone
        return (200, undone["restored"], len(undone["not_restored"]))

    async def _collect(self, op: Op) -> Answer:
        if op.actor == "admin":
            await collect(self.clients["admin"][0])
            return (202,)
        return (await self._ask(op, "POST", "/api/v1/collections"))[:1]

    async def _push(self, op: Op, name: str) -> Answer:
        content = self.contents.blobs[op.blob]
        digest = digest_of(content if op.how != "wrong" else content + b"!")
        uploads = f"/v2/{name}/blobs/uploads/"
        if op.how == "single":
            status, headers, _ = await self._ask(op, "POST", uploads, params={"digest": digest}, data=content)
        else:
            status, headers, _ = await self._ask(op, "POST", uploads)
            if status != 202:
                return (status,)
            location, rest = headers["Location"], content
            if op.how in ("chunked", "streamed"):
                middle = len(content) // 2 if op.how == "chunked" else len(content)
                told = {"Content-Range": f"0-{middle - 1}"} if op.how == "chunked" and middle else {}
                status, _, _ = await self._ask(op, "PATCH", location, data=content[:middle], headers=told)
                assert status == 202, status
                rest = content[middle:]
            status, headers, _ = await self._ask(op, "PUT", location, params={"digest": digest}, data=rest)
        if status == 201:
            assert headers["Docker-Content-Digest"] == digest
        return (status,)

    async def _mount(self, op: Op, name: str) -> Answer:
        params = {"mount": digest_of(self.contents.blobs[op.blob])}
        if op.source is not None:
            params["from"] = self.contents.name(op.source)
        status, headers, _ = await self._ask(op, "POST", f"/v2/{name}/blobs/uploads/", params=params)
        if status == 202:
            ended, _, _ = await self._ask(op, "DELETE", headers["Location"])
            assert ended == 204, ended
        return (status,)

    async def _put(self, op: Op, name: str) -> Answer:
        item = self.contents.items[op.key]
        status, headers, _ = await self._ask(
            op,
            "PUT",
            f"/v2/{name}/manifests/{op.tag or item.digest}",
            params=[("tag", tag) for tag in op.tags],
            headers={"Content-Type": item.media_type},
            data=item.raw,
        )
        if status != 201:
            return (status,)
        subject = headers.get("OCI-Subject")
        listed = tuple(part.strip() for part in headers.get("OCI-Tag", "").split(",") if part.strip())
        return (status, self._by_digest[subject] if subject else None, listed)

    async def _session(self, op: Op) -> Answer:
        missing = f"/v2/{self.contents.name(0)}/blobs/uploads/{_NO_SESSION}"
        location = self.locations.get(op.slot, missing)
        content = self.contents.blobs[UPLOADED]
        match op.kind:
            case "append":
                first, end = PARTS[op.part]
                told = {"Content-Range": f"{first}-{end - 1}"}
                asked = self._ask(op, "PATCH", location, data=content[first:end], headers=told)
            case "finish":
                asked = self._ask(op, "PUT", location, params={"digest": digest_of(content)})
            case "cancel":
                asked = self._ask(op, "DELETE", location)
            case _:
                asked = self._ask(op, "GET", location)
        status, headers, _ = await asked
        if op.kind in ("append", "status") and status in (202, 204, 416):
            last = int(headers["Range"].partition("-")[2])
            return (status, last + 1 if last else 0)
        return (status,)

    async def _ask(
        self, op: Op, method: str, path: str, *, data: bytes | None = None, **options: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        client = self._client(op.actor)
        if data is not None:
            options["data"] = io.BytesIO(data)
        async with client.request(method, path, **options) as response:
            body = await response.read()
            if response.status == 503:  # the store or the database is not there, or is slow
                raise ConnectionError(op, response.status, body)
            assert response.status < 500, (op, response.status, body)
            return response.status, response.headers, body

    def _client(self, actor: Actor) -> aiohttp.ClientSession:
        clients = self.clients[actor]
        self._turn += 1
        return clients[self._turn % len(clients)]


async def at_once(player: Player, ops: Sequence[Op]) -> list[tuple[Op, Answer]]:
    """Do all of these at once; each with its answer."""
    answers = await asyncio.gather(*(player.do(op) for op in ops))
    return list(zip(ops, answers, strict=True))
