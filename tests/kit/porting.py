"""Commands run against the registry of a test, as a person runs them."""

from __future__ import annotations

import asyncio
import os

from tests.kit.sources import ROOT
from tests.kit.trials import Port
from tests.kit.warm import run_seatrial


async def command(port: Port, *arguments: str, code: int = 0) -> str:
    """What ``seatrial`` with these arguments prints as the administrator: on its output, or where it is to
    end with an error, on the other."""
    out, err = await printed(port, *arguments, code=code)
    return err if code else out


async def printed(port: Port, *arguments: str, code: int = 0) -> tuple[str, str]:
    """What it prints on its output, and on the other."""
    environment = {**os.environ, "SEATRIAL_TOKEN": port.registry.token}
    words = (*arguments, "--server", port.registry.url)
    done = await asyncio.to_thread(run_seatrial, *words, environment=environment, folder=ROOT)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr
