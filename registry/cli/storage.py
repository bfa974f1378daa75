"""``seatrial storage``: where the bytes are, without a server."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import JsonOption
from registry.cli.options import ConfigOption, DataOption, server_settings

app = typer.Typer(help="The blob store: copy to another.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """The blob store: copy to another."""


@app.command()
def copy(
    *,
    target: Annotated[
        str, typer.Option("--to", metavar="URL", help="file:///FOLDER or s3://BUCKET/PREFIX, the new store.")
    ],
    parallel: Annotated[
        int, typer.Option("--parallel", min=1, max=64, help="How many blobs are copied at once.")
    ] = 4,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be copied; change nothing.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the blobs of a registry to another store, also while it serves.

    Each is hashed on its way. It can be interrupted and run again, and then copies what is missing. Nothing
    is deleted. To switch: stop the server, run this once more, start it with the new SEATRIAL_STORAGE_URL.
    Exits 2 if a blob could not be copied.
    """
    settings = server_settings(config, data=data)
    from registry.cli.storagecopy import copy_storage  # noqa: PLC0415  (needs the server's libraries)

    copy_storage(settings, target, parallel=parallel, dry_run=dry_run, as_json=as_json)
