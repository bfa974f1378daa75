"""docs/webhooks.md: the receiver that it shows is one, and the commands work on a real server."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.main import run
from tests.kit.distribution import push_small
from tests.kit.ports import free_port
from tests.kit.server import running_registry
from tests.kit.sources import ROOT

PAGE = (ROOT / "docs" / "webhooks.md").read_text()
Command = Callable[..., Any]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_receiver_of_the_page_and_the_commands(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len([line for line in program.splitlines() if line.strip()]) <= 24
    async with (
        running_registry(tmp_path / "data", database_url, outgoing_networks=("127.0.0.0/8",)) as registry,
        registry.client() as client,
    ):
        monkeypatch.setenv("SEATRIAL_SERVER", registry.url)
        monkeypatch.setenv("SEATRIAL_TOKEN", registry.token)

        async def command(*arguments: str, code: int = 0) -> Any:
            """What a command printed, as JSON where it is."""
            capsys.readouterr()
            assert await asyncio.to_thread(run, [*arguments, "--json"]) == code, capsys.readouterr().err
            printed = capsys.readouterr().out
            # The registry of this process logs beside it.
            told = re.search(r"^([{\[]$.*|\[\]$)", printed, re.DOTALL | re.MULTILINE)
            return json.JSONDecoder().raw_decode(told[1])[0] if told else printed

        await push_small(client, "team/app", "1")
        port = free_port()
        made = await command(
            "webhook", "create", f"http://127.0.0.1:{port}/", "--repository", "team/app", "--event", "tag.*"
        )
        # Nobody is there yet.
        failed = await command("webhook", "test", made["id"], "--timeout", "10", code=1)
        assert "cannot be reached" in failed["last_attempts"][0]["error"]
        receiver = subprocess.Popen(
            [sys.executable, "-c", program, str(port)],
            env={"WEBHOOK_SECRET": made["secret"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            await asyncio.to_thread(wait_for, port)
            assert (await command("webhook", "redeliver", made["id"], failed["id"]))["attempts"] == 0
            assert receiver.stdout is not None
            line = asyncio.to_thread(receiver.stdout.readline)
            assert await asyncio.wait_for(line, 60) == "seatrial.webhook.test team/app\n"
            told = await command("webhook", "test", made["id"])
            assert (told["state"], told["last_attempts"][0]["status"]) == ("delivered", 204)
            assert (await asyncio.to_thread(receiver.stdout.readline)).startswith("seatrial.webhook.test")
            await push_small(client, "team/app", "2", annotations={"a": "b"})
            line = asyncio.to_thread(receiver.stdout.readline)
            assert await asyncio.wait_for(line, 60) == "seatrial.tag.moved team/app\n"
            # With another secret it takes nothing.
            await command("webhook", "rotate", made["id"], "--at-once")
            refused = await command("webhook", "test", made["id"], code=1)
            assert refused["last_attempts"][0]["error"] == "answered 401"
        finally:
            receiver.kill()
            receiver.wait()
            receiver.stdout.close()  # type: ignore[union-attr]
        changed = await command("webhook", "set", made["id"], "--disable", "--ordered")
        assert changed["ordered"]
        assert (await command("webhook", "list"))[0]["id"] == made["id"]
        assert (await command("webhook", "show", made["id"]))["disabled_reason"] == "disabled by admin"
        assert len(await command("webhook", "deliveries", made["id"], "--limit", "2")) == 2
        shown = await command("webhook", "deliveries", made["id"], failed["id"])
        assert shown["state"] == "delivered"
        await command("webhook", "redeliver", made["id"], code=64)
        await command("webhook", "set", made["id"], code=64)
        assert await asyncio.to_thread(run, ["webhook", "deliveries", made["id"], failed["id"]]) == 0
        assert "cannot be reached" in capsys.readouterr().out
        lines = await command("events", "follow", "--after", "0", "--until-now", "--event", "tag.*")
        assert [json.loads(line)["data"]["tag"] for line in lines.splitlines() if '"position"' in line] == [
            "1",
            "2",
        ]
        await command("webhook", "delete", made["id"], "--yes")
        assert await command("webhook", "list", "--repository", "team/app") == []


def wait_for(port: int) -> None:
    """Until somebody listens."""
    import socket

    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)
        else:
            return
