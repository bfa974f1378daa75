"""Commands run against the registry of a test, as a person runs them."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

from tests.kit.sources import ROOT
from tests.kit.trials import Port


async def command(port: Port, *arguments: str, code: int = 0) -> str:
    """What ``seatrial`` with these arguments prints as the administrator: on its output, or where it is to
    end with an error, on the other."""
    out, err = await printed(port, *arguments, code=code)
    return err if code else out


async def printed(port: Port, *arguments: str, code: int = 0) -> tuple[str, str]:
    """What it prints on its output, and on the other."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "registry.main", *arguments, "--server", port.registry.url),
        cwd=ROOT,
        env={**os.environ, "SEATRIAL_TOKEN": port.registry.token},
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == code, err
    return out.decode(), err.decode()
