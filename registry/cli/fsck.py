"""``seatrial fsck``: whether database, store and attestations agree, without a server."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import JsonOption
from registry.cli.options import (
    ConfigOption,
    CredentialsOption,
    DataOption,
    IdentityOption,
    existing_settings,
    server_settings,
)
from registry.errors import RequestInvalidError


def command(
    *,
    context: typer.Context,
    mend: Annotated[
        bool, typer.Option("--mend", help="Mend what is safe to mend; else nothing is changed.")
    ] = False,
    hashed: Annotated[
        bool, typer.Option("--hash", help="Read all blobs and compare their digests, as fast as it goes.")
    ] = False,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="Where what is damaged may be had; may be repeated. Backups, as seatrial backup keeps "
            "them in a folder or s3://BUCKET/PREFIX; an image layout, as seatrial import takes one, also "
            "at an address (https://HOST/layout/NAME/); or a copy of the store, file:///FOLDER or "
            "s3://BUCKET/PREFIX, as seatrial storage copy makes one.",
        ),
    ] = None,
    identity: IdentityOption = None,
    credentials: CredentialsOption = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Where the database is lost: make one from the store, as far as bytes tell; with --mend, "
            "else only say what would be made.",
        ),
    ] = False,
    into: Annotated[
        str, typer.Option("--into", metavar="NAME", help="With --rebuild: the repository that all goes into.")
    ] = "recovered",
    limit: Annotated[
        int,
        typer.Option("--limit", min=0, max=100_000, help="How many problems are printed; all are counted."),
    ] = 100,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare database, store and attestations both ways, and mend what is safe; without --mend only tell.

    It works beside a server too. Exits 0 when all is well, or was mended, 1 when problems are left.
    """
    if rebuild:
        if hashed or sources or identity or credentials:
            raise RequestInvalidError(
                "--rebuild reads all there is; it takes no --hash, --from, --identity and --credentials"
            )
        settings = server_settings(config, data=data)
        from registry.cli.fsckrebuild import run_rebuild  # noqa: PLC0415

        run_rebuild(settings, into=into, mend=mend, as_json=as_json)
        return
    settings = existing_settings(config, data=data)
    from registry.cli.fsckrun import Asked, run_fsck  # noqa: PLC0415  (needs the server's libraries)

    asked = Asked(
        mend=mend,
        hashed=hashed,
        sources=tuple(sources or ()),
        identity=identity,
        credentials=credentials,
        ca_file=context.find_root().params.get("ca_file"),
        limit=limit,
    )
    if run_fsck(settings, asked, as_json=as_json):
        raise typer.Exit(1)
