"""``seatrial export``: images of the registry as an image layout, in a folder or an archive."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_json
from registry.oci.names import split_repository_reference


def command(
    *,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[:TAG|@DIGEST]...", help="Images of the registry; a NAME alone is all of its tags."
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A folder; a file that ends in .tar, .tar.gz, .tgz, .tar.zst or .zip; - for a tar to "
            "standard output; or an http(s) address that takes such a file by PUT.",
        ),
    ],
    referrers: Annotated[
        bool,
        typer.Option("--referrers", help="With signatures, attestations and what else refers to them."),
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write images to an OCI image layout. A folder that is there keeps what it has, and takes what is new;
    an export to it that was broken off goes on where it was. docker load takes a tar too.
    With --with-evidence FILE it writes what the registry has signed about an image."""
    # Only these need what writes archives.
    from registry.cli.layoutexport import gather, write  # noqa: PLC0415
    from registry.cli.layouttarget import open_target  # noqa: PLC0415

    asked = [split_repository_reference(image) for image in images]
    client = connect(server, token_file)
    with open_target(target, ca_file=client.ca_file) as opened:
        export = gather(client, asked, opened.entries(), referrers=referrers)
        copied = write(export, opened)
    told = {
        "target": target,
        "images": [
            {"image": one.image, "digest": str(one.digest), "name": one.name} for one in export.images
        ],
        "referrers": export.referrers,
        **copied,
    }
    if as_json:
        print_json(told, err=target == "-")
        return
    for one in export.images:
        typer.echo(f"{one.image}@{one.digest}", err=target == "-")
    typer.echo(
        f"{target}: {copied['new_bytes']} new bytes in {copied['new_blobs']} blobs, "
        f"{copied['kept_blobs']} were there, {export.referrers} referrers",
        err=target == "-",
    )
