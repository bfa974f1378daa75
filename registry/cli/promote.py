"""``seatrial promote``: set a tag to what another repository has, with all that belongs to it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_fields, print_json, print_table
from registry.cli.promotion import EXIT_NOT_YET, print_promotion
from registry.errors import RequestInvalidError

EXIT_REFUSED = 1
_COUNTED = ("source", "repository", "tag", "digest", "old_digest", "state", "manifests", "blobs", "bytes")
_VERDICTS = ("platform", "digest", "verdict", "carried", "worker", "reason")


def command(
    source: Annotated[
        str | None, typer.Argument(metavar="SRC", help="NAME:TAG or NAME@DIGEST, or both at once.")
    ] = None,
    to: Annotated[
        str | None, typer.Argument(metavar="DST", help="NAME:TAG; without a tag, that of the source.")
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would happen, and why it would be refused.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; everybody who may pull from DST can read it.")
    ] = None,
    stands_at: Annotated[
        str | None,
        typer.Option("--over", metavar="DIGEST", help="Only if DST stands there, or 'nowhere', by now."),
    ] = None,
    undo: Annotated[
        int | None,
        typer.Option(
            "--undo", metavar="ID", min=1, help="Take a promotion back, if the tag has not moved since."
        ),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a tag to an image of another repository, with its referrers, signatures and verdicts.

    Nothing is run and no bytes are copied: the destination judges anew what is known of the image, and takes
    nothing but what passes. Exit code 0 when the tag is set, 3 when somebody else has to grant it (seatrial
    promotion grant), 2 when it is refused; with --dry-run 0, 3 and 1.
    """
    client = connect(server, token_file)
    if undo is not None:
        if source is not None or to is not None or dry_run or reason is not None or stands_at is not None:
            raise RequestInvalidError("--undo takes the number of a promotion and nothing else")
        print_promotion(client.send("POST", f"/promotions/{undo}/undo"), as_json=as_json)
        return
    if source is None or to is None:
        raise RequestInvalidError("say what is promoted and where to: seatrial promote SRC DST")
    given = {"source": source, "to": to, "reason": reason, "stands_at": stands_at}
    body = {name: value for name, value in given.items() if value is not None}
    if dry_run:
        _preview(client.send("POST", "/promotions/preview", body), as_json=as_json)
        return
    made = client.send("POST", "/promotions", body)
    print_promotion(made, as_json=as_json)
    if made["standing"] == "requested":
        if not as_json:
            typer.echo(f"somebody else has to grant it: seatrial promotion grant {made['id']}")
        raise typer.Exit(EXIT_NOT_YET)


def _preview(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_fields(found, _COUNTED)
        for title, rows, columns in (
            ("verdicts", found["verdicts"], _VERDICTS),
            ("referrers", found["referrers"], ("digest", "artifact_type")),
        ):
            if rows:
                typer.echo(f"\n{title}")
                print_table(rows, columns)
        typer.echo("")
        for refusal in found["refusals"]:
            typer.echo(f"refused: {refusal}")
        if found["would"] == "promote":
            typer.echo("it would be promoted")
        elif found["would"] == "request":
            typer.echo("it would be requested, and somebody else has to grant it")
    if found["would"] != "promote":
        raise typer.Exit(EXIT_REFUSED if found["would"] == "refuse" else EXIT_NOT_YET)
