"""``seatrial doctor --server``: whether clients can use a registry from here, else which line to change."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from registry.cli.client import JsonOption, TokenOption, read_token
from registry.cli.examining import Examination
from registry.cli.output import print_json
from registry.errors import RequestInvalidError
from registry.oci.names import parse_repository_name
from registry.oci.printable import printable

SUMMARIES = (
    "Clients can use this registry from here.",
    "Some things will not work: each names the line to change.",
    "There is no registry to be reached at this address.",
)
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")


def command(
    *,
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="Address of the registry, as clients use it.")
    ],
    token_file: TokenOption = None,
    repository: Annotated[
        str | None,
        typer.Option(
            "--repository", metavar="NAME", help="One that is there, to try an upload in, which is cancelled."
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", metavar="FILE", exists=True, help="Trust this authority or certificate as well."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a registry what clients ask, and say what is in their way.

    Looks at certificate, address of tokens, forwarded headers, addresses, headers, compression, body size,
    buffering and clock; with a token at sign-in and version, and with --repository at an upload.
    Exit code 0: nothing is in the way; 1: something is; 2: no registry was reached.
    """
    address = server if "://" in server else f"https://{server}"
    if not _ADDRESS.fullmatch(address.rstrip("/")):
        raise RequestInvalidError(f"--server {server!r} must be http(s)://HOST[:PORT] without a path")
    examination = Examination(
        server=address.rstrip("/"),
        # Only one that was given: the token of the registry in this folder is nothing for another's.
        token=read_token(token_file) if token_file else None,
        repository=parse_repository_name(repository) if repository else None,
        ca_file=ca_file,
    )
    found = []
    for finding in examination.findings():
        found.append(finding)
        if not as_json:
            mark = {"ok": "ok", "problem": "PROBLEM", "unknown": "unknown"}[finding.status]
            typer.echo(printable(f"{mark:>8}  {finding.name}: {finding.detail}"))
            for line in finding.fix:
                typer.echo(printable(f"{'':10}change: {line}"))
    code = 2 if not examination.reached else int(any(one.status == "problem" for one in found))
    if as_json:
        print_json(
            {
                "server": examination.server,
                "exit_code": code,
                "summary": SUMMARIES[code],
                "findings": [asdict(one) for one in found],
            }
        )
    else:
        left = (
            " What is 'unknown' was not looked at." if any(one.status == "unknown" for one in found) else ""
        )
        typer.echo(f"\n{SUMMARIES[code]}{left}")
    raise typer.Exit(code)
