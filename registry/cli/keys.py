"""``seatrial keys``: the keys that sign registry tokens and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import Client, JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_fields, print_json, print_list
from registry.errors import NotFoundError, RequestInvalidError

app = typer.Typer(no_args_is_help=True, help="Signing keys: list, export and replace them.")
_SHOWN = ("kid", "ring", "algorithm", "created_at", "retired_at")


@app.command("list")
def list_keys(
    *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List the public keys that verdicts are signed with, for administrators all keys; the newest first."""
    found = list(connect(server, token_file).items("/keys"))
    print_list(found, _SHOWN, as_json=as_json)


@app.command()
def export(
    *,
    folder: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="Write each key to FOLDER/KID.pem instead."),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the public keys that verdicts are signed with, as PEM, the newest first: for cosign
    verify-attestation --key, which takes one, and for seatrial verify --key, which takes several in one
    file.

    Nobody needs to sign in for them. Those of keys that were stolen are left out."""
    found = verdict_keys(connect(server, token_file))
    if not found:
        raise NotFoundError("no verdict was signed yet, so there is no key")
    if as_json:
        print_json(found)
    for key in found:
        if folder is None:
            if not as_json:
                typer.echo(key["public_pem"], nl=False)
            continue
        path = folder / f"{key['kid']}.pem"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(key["public_pem"], encoding="ascii")
        except OSError as error:
            raise RequestInvalidError(f"{path} cannot be written: {error.strerror}") from None
        if not as_json:
            typer.echo(str(path))


def verdict_keys(client: Client) -> list[Any]:
    """The keys that sign verdicts and are published, as the API tells of them, the newest first."""
    return [
        key for key in client.items("/keys") if key["ring"] == "attestation" and key["retired_at"] is None
    ]


def read_key_file(file: Path) -> str:
    """The text of a file of public keys.

    Raises:
        RequestInvalidError: it cannot be read, or is no PEM.
    """
    try:
        return file.read_text(encoding="ascii")
    except OSError as error:
        raise RequestInvalidError(f"the key file {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RequestInvalidError(f"the key file {file} cannot be used: {error}") from None


@app.command()
def rotate(
    *,
    ring: Annotated[
        str,
        typer.Option("--ring", metavar="token|attestation", help="What it signs: tokens or verdicts."),
    ] = "token",
    algorithm: Annotated[
        str | None,
        typer.Option("--algorithm", metavar="ES256|EdDSA", help="[default: as the server is set]"),
    ] = None,
    at_once: Annotated[
        bool,
        typer.Option("--at-once", help="A key was stolen: what older keys signed is refused from now on."),
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new key. It signs after a minute; older ones verify until the last token of theirs has ended,
    those of verdicts for ever. With --at-once, verdicts are signed anew."""
    wanted: dict[str, object] = {"ring": ring, "at_once": at_once}
    if algorithm is not None:
        wanted["algorithm"] = algorithm
    made = connect(server, token_file).send("POST", "/keys/rotate", wanted)
    if as_json:
        print_json(made)
    else:
        print_fields(made, _SHOWN)
