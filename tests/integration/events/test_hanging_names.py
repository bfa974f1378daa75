"""A name server that hangs keeps only those webhooks waiting that need it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from registry.auth.actor import REGISTRY
from registry.db.engine import Database
from registry.db.outbox import record
from registry.events.attempts import Pace
from tests.kit.access import api
from tests.kit.receiver import running_receiver
from tests.kit.server import running_registry


async def tell(database: Database) -> None:
    async with database.write() as connection:
        await record(connection, "tag.moved", "team/app", REGISTRY, {"tag": "t"})


async def test_names_that_nobody_answers_for_keep_nobody_else_waiting(
    tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    usual, released, hanging = socket.getaddrinfo, threading.Event(), set[str]()

    def look_up(host: Any, *given: Any, **more: Any) -> Any:
        if not str(host).endswith(".example"):
            return usual(host, *given, **more)
        hanging.add(host)
        released.wait(200)
        raise socket.gaierror("nobody answers")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    path = tmp_path / "seatrial.db"
    shutil.copyfile(sqlite_template, path)
    pace, networks = Pace(poll_seconds=0.05), ("127.0.0.0/8",)
    async with (
        running_receiver() as receiver,
        running_registry(
            tmp_path / "data", f"sqlite:///{path}", pace=pace, outgoing_networks=networks
        ) as registry,
    ):
        assert registry.services is not None
        try:
            async with registry.client() as client:
                hooks = [
                    await api(
                        client,
                        "POST",
                        "/webhooks",
                        status=201,
                        json={"url": f"https://n{number}.example/", "kinds": ["tag.*"]},
                    )
                    for number in range(3)
                ]
                await tell(registry.services.database)
                async with asyncio.timeout(60):
                    while len(hanging) < len(hooks):  # noqa: ASYNC110  (threads)
                        await asyncio.sleep(0.02)
                # Neither other webhooks by a name that resolves, nor what else the process asks and reads.
                receiver_by_name = receiver.url.replace("127.0.0.1", "localhost")
                made = await api(
                    client,
                    "POST",
                    "/webhooks",
                    status=201,
                    json={"url": receiver_by_name, "kinds": ["tag.*"]},
                )
                receiver.secrets = [made["secret"]]
                await tell(registry.services.database)
                await receiver.until(1)
                asked = await registry.services.outgoing.request(
                    "GET", receiver_by_name, max_bytes=1000, seconds=60
                )
                assert asked.status == 405
                assert not released.is_set()
                waiting = await api(client, "GET", f"/webhooks/{hooks[0]['id']}/deliveries")
                assert [each["state"] for each in waiting["items"]] == ["pending", "pending"]
        finally:
            released.set()
