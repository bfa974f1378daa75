"""``seatrial gc``: delete what nothing names any more, with pushes going on."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.ending import until_ended
from registry.cli.output import print_fields, print_json, print_list
from registry.errors import RequestInvalidError

_PHASES = ("links", "blobs", "manifests", "bytes", "strays", "done")
_COUNTS = (
    "links_condemned",
    "links_removed",
    "blobs_removed",
    "manifests_removed",
    "strays_removed",
    "freed_bytes",
)
_SHOWN = ("id", "phase", *_COUNTS, "ended_at")
_LISTED = ("id", "asked_by", "asked_at", "phase", "links_removed", "blobs_removed", "freed_bytes", "ended_at")
_PREVIEWED = ("kind", "repository", "digest", "size_bytes", "remove_after", "why")


def command(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what will be removed, from when on, and why.")
    ] = False,
    history: Annotated[bool, typer.Option("--history", help="Show the latest collections.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Until it has ended; Ctrl-C does not stop it.")
    ] = True,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1000, help="Of --dry-run: so many of each kind.")
    ] = 100,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Collect: delete bytes that nothing names any more, while the registry works on.

    A blob that no manifest of its repository names stays for SEATRIAL_COLLECTION_GRACE_SECONDS. Manifests
    that no tag names stay: they can be pulled by digest.
    """
    if dry_run and history:
        raise RequestInvalidError("give --dry-run or --history, and not both")
    client = connect(server, token_file)
    if dry_run:
        # A large registry is looked at by several requests.
        counts: Counter[str] = Counter()
        found = []
        for one in client.linked("/collections/preview", {"limit": limit}):
            counts[one["kind"]] += 1
            found += [one] if counts[one["kind"]] <= limit else []
        if found or as_json:
            print_list(found, _PREVIEWED, as_json=as_json)
        else:
            typer.echo("Nothing is to be removed.")
        return
    if history:
        print_list(client.get("/collections"), _LISTED, as_json=as_json)
        return
    collection = client.send("POST", "/collections")
    if wait:
        collection = until_ended(
            client,
            f"/collections/{collection['id']}",
            collection,
            label="collecting",
            total=len(_PHASES) - 1,
            done=lambda one: _PHASES.index(one["phase"]),
        )
    if as_json:
        print_json(collection)
    else:
        print_fields(collection, _SHOWN)
