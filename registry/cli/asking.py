"""Asking before what has no way back."""

from __future__ import annotations

import sys

import typer

from registry.errors import RequestInvalidError


def require_yes(question: str, *, yes: bool) -> None:
    """Go on only if ``--yes`` was given or the question is answered so; a script may answer on stdin.

    Raises:
        RequestInvalidError: nobody answers.
        typer.Abort: the answer is no.
    """
    if yes:
        return
    try:
        if typer.confirm(question, err=True):
            return
    except typer.Abort:
        if not sys.stdin.isatty():
            typer.echo("", err=True)
            raise RequestInvalidError("nobody answers: give --yes to do it without asking") from None
        raise
    raise typer.Abort
