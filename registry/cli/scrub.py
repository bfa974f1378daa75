"""``seatrial scrub``: whether the bytes that are stored are still those that were pushed."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.ending import until_ended
from registry.cli.output import print_fields, print_json, print_list
from registry.contract.sizes import parse_size_bytes
from registry.errors import NotFoundError

app = typer.Typer(no_args_is_help=True, help="Damaged bytes: run, status, damaged, stop.")
_COUNTS = ("blobs_checked", "blobs_total", "bytes_checked", "bytes_total", "damaged", "recovered")
_SHOWN = ("id", "asked_by", "asked_at", "bytes_per_second", *_COUNTS, "stopped", "ended_at")
_LISTED = ("id", "asked_by", "asked_at", *_COUNTS, "stopped", "ended_at")
_DAMAGED = ("digest", "size_bytes", "damage", "damaged_at", "repositories_count", "repositories")


@app.command()
def run(
    *,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            metavar="SIZE",
            help="How much is read in a second, as in 50MiB. [default: SEATRIAL_SCRUB_BYTES_PER_SECOND]",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Until it has ended; Ctrl-C does not stop it.")
    ] = True,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Read all blobs and look whether their bytes are still those that were pushed, while the registry works.

    What is damaged is given to nobody from then on, and is healed by pushing the same image again. If there
    is a scrub already it goes on, at the rate if one is given. Exits 1 if blobs are damaged.
    """
    body = {} if rate is None else {"bytes_per_second": parse_size_bytes(rate)}
    client = connect(server, token_file)
    scrub = client.send("POST", "/scrubs", body)
    if wait:
        scrub = until_ended(
            client,
            f"/scrubs/{scrub['id']}",
            scrub,
            label="scrubbing",
            total=scrub["bytes_total"],
            done=lambda one: int(one["bytes_checked"]),
            of_bytes=True,
        )
    if as_json:
        print_json(scrub)
    else:
        print_fields(scrub, _SHOWN)
    if wait and client.get("/scrubs/damaged", {"limit": "1"})["items"]:
        if not as_json:
            typer.echo("Some blobs are damaged: seatrial scrub damaged", err=True)
        raise typer.Exit(1)


@app.command()
def status(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="How many of the latest.")] = 5,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Show the latest scrubs, newest first: how far they are, and what they found."""
    found = connect(server, token_file).get("/scrubs", {"limit": str(limit)})
    print_list(found, _LISTED, as_json=as_json)


@app.command()
def damaged(
    *, as_json: JsonOption = False, server: ServerOption = SERVER, token_file: TokenOption = None
) -> None:
    """List the blobs that are damaged, and repositories that they are missing in."""
    found = list(connect(server, token_file).items("/scrubs/damaged"))
    print_list(found, _DAMAGED, as_json=as_json)


@app.command()
def stop(
    *, as_json: JsonOption = False, server: ServerOption = SERVER, token_file: TokenOption = None
) -> None:
    """End the scrub that is going on; what it has found stays."""
    client = connect(server, token_file)
    going_on = [one for one in client.get("/scrubs", {"limit": "1"}) if one["ended_at"] is None]
    if not going_on:
        raise NotFoundError("no scrub is going on")
    stopped = client.send("POST", f"/scrubs/{going_on[0]['id']}/stop")
    if as_json:
        print_json(stopped)
    else:
        print_fields(stopped, _SHOWN)
