"""The log of a trial on a terminal, while it is written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import typer

from registry.cli.client import CallError, Client, part
from registry.cli.output import cell
from registry.oci.printable import PrintableLines

_TRIES = 10
_PAUSE_SECONDS = 1.0


@dataclass(slots=True)
class _Screen:
    """Output goes to standard output, what is said about it to standard error."""

    _run: tuple[object, ...] = ()
    _lines: PrintableLines = field(default_factory=PrintableLines)

    def part(self, said: Mapping[str, Any]) -> None:
        """How it stands with a platform."""
        worker = f" by worker {cell(said['worker'])}" if said["worker"] and said["state"] == "leased" else ""
        standing = said["verdict"] or said["state"].replace("leased", "running")
        reason = f": {cell(said['reason'])}" if said["reason"] else ""
        typer.echo(f"{cell(said['platform'])}: {standing}{worker}{reason}", err=True)

    def log(self, said: Mapping[str, Any]) -> None:
        """Some output."""
        run = (said["platform"], said["run"], said["attempt"])
        if run != self._run:
            self.end()
            self._run = run
            attempt = f", attempt {said['attempt']}" if said["attempt"] else ""
            typer.echo(f"== {cell(said['platform'])} {cell(said['run'])}{attempt} ==", err=True)
        for line in self._lines.take(said["text"]):
            typer.echo(line)

    def end(self) -> None:
        """What has no end of line."""
        for line in self._lines.end():
            typer.echo(line)


def follow(client: Client, trial_id: str) -> Any:
    """Print the log of a trial as it comes; what is said of its end, ``None``: it is no longer to be seen.
    Goes on where it was cut off.

    Raises:
        CallError: refused, or not reached for a while.
    """
    path, last, failed, screen = f"/trials/{part(trial_id)}/log/live", "", 0, _Screen()
    told: dict[int, Mapping[str, Any]] = {}
    while True:
        try:
            for event_id, kind, said in client.events(path, after=last):
                last, failed = event_id, 0
                if kind in ("end", "gone"):
                    screen.end()
                    return said if kind == "end" else None
                if kind == "log":
                    screen.log(said)
                elif told.get(said["part"]) != said:
                    told[said["part"]] = said
                    screen.part(said)
        except CallError as error:
            failed += 1
            if failed > _TRIES or 400 <= error.status < 429 or 429 < error.status < 500:
                raise
        time.sleep(_PAUSE_SECONDS)
