"""``seatrial gate``: who may pull what, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import ImageArgument, JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_fields, print_json

app = typer.Typer(no_args_is_help=True, help="The gate: block and unblock images, and explain decisions.")


@app.command("block")
def block(
    *,
    image: ImageArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; everybody who is refused reads it.")],
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Refuse an image to everybody, above every verdict and every gate."""
    connect(server, token_file).send("POST", "/gate/block", {"image": image, "reason": reason})
    if as_json:
        print_json({"image": image, "blocked": True})
    else:
        typer.echo(f"{image} is blocked")


@app.command("unblock")
def unblock(
    *,
    image: ImageArgument,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Let an image be what its verdict makes it."""
    connect(server, token_file).send("POST", "/gate/unblock", {"image": image})
    if as_json:
        print_json({"image": image, "blocked": False})
    else:
        typer.echo(f"{image} is not blocked")


@app.command("explain")
def explain(
    *,
    image: ImageArgument,
    actor: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="ACTOR", help="Who pulls it, if not you: a user, a robot, or anonymous."
        ),
    ] = None,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
) -> None:
    """Say what the gate answers to you, or to somebody else, who pulls an image, and why.

    Under hold, "digest" is where the tag was pushed to and "served" what who pulls it gets.
    """
    asked = {"image": image} if actor is None else {"image": image, "actor": actor}
    answer = connect(server, token_file).get("/gate", asked)
    if as_json:
        print_json(answer)
    else:
        print_fields(
            answer,
            (
                *("image", "actor", "digest", "served", "gate", "state", "reason", "may_push"),
                *("decision", "explain", "sentence"),
            ),
        )
