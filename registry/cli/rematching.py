"""``seatrial advisories matching|rematch``: how far a server has matched its images with its advisories."""

from __future__ import annotations

from typing import Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_json


def matching(
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how far a server has matched the packages of its images with its advisories."""
    found = connect(server, token_file).get("/advisories")
    progress = found["matching"]
    if as_json:
        print_json({"problem": found["problem"], **(progress or {})})
        return
    if found["problem"]:
        typer.echo(f"on the host that answered: {found['problem']}")
    if progress is None:
        typer.echo("no packages were ever matched: there was no file of advisories")
        return
    _tell(progress)


def rematch(
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a server match all packages again, with the file of advisories of the host that answers.

    It does so by itself when a newer file takes its place. This is for when the file that counts is gone.
    """
    begun = connect(server, token_file).send("POST", "/advisories/matchings")
    if as_json:
        print_json(begun)
        return
    _tell(begun)


def _tell(progress: Any) -> None:
    typer.echo(f"generation {progress['generation']}, its oldest source of {progress['oldest_at']}")
    typer.echo(
        f"{progress['matched']} packages matched, {progress['changed']} of them otherwise than before; "
        f"{progress['images']} images told"
    )
    if progress["ended_at"] and not (progress["left"] or progress["untold"]):
        typer.echo(f"ended at {progress['ended_at']}")
    else:
        typer.echo(f"{progress['left']} packages and {progress['untold']} images are left")
