"""``seatrial import``: images of a layout, pushed to the registry."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_json
from registry.errors import RequestInvalidError
from registry.oci.names import split_repository_reference


def command(
    *,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="An OCI image layout or what docker save writes: a folder, a tar or zip, plain or "
            "compressed, - for standard input, or an address of http(s) or ftp; one that ends with / is a "
            "folder.",
        ),
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:TAG]", help="Where to; without a TAG each image keeps the tag that it has there."
        ),
    ],
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="TAG|DIGEST", help="Only this image of the layout. [default: all]"),
    ] = None,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="Take indexes of which not every platform is there.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Push the images of a layout, with what refers to them. All of it is looked at before anything is sent;
    what the registry has is not sent again, so an import that was broken off goes on when it is repeated."""
    from registry.cli.layoutimport import plan, push  # noqa: PLC0415  (slow to import)
    from registry.cli.layoutsource import open_source  # noqa: PLC0415
    from registry.cli.repositoryclient import repository_client  # noqa: PLC0415

    repository, tag, digest = split_repository_reference(name)
    if digest is not None:
        raise RequestInvalidError("an import goes to NAME or NAME:TAG; --image chooses one by its digest")
    client = connect(server, token_file)
    into = repository_client(client, repository, actions="pull,push")
    with open_source(source, ca_file=client.ca_file) as layout:
        planned = plan(layout, into, tag=tag, image=image, sparse=sparse)
        told = push(layout, planned, into)
    if as_json:
        print_json({"source": source, "repository": repository, **told})
        return
    for one in told["images"]:
        tags = ", ".join(one["tags"]) or "no tag: give NAME:TAG to name it"
        typer.echo(f"{repository}@{one['digest']}  {tags}{'' if one['changed'] else '  (was there)'}")
    typer.echo(
        f"{told['sent_bytes']} bytes sent in {told['sent_blobs']} blobs, {told['kept_blobs']} were there, "
        f"{told['referrers']} referrers"
    )
    for absent in told["absent"]:
        typer.echo(f"left out, for the layout does not have it: {absent}", err=True)
