"""Asking: before what has no way back, and for what must not stand on a command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from registry.contract.secrets import MAX_BYTES
from registry.errors import RequestInvalidError

if TYPE_CHECKING:
    from pathlib import Path


def read_value(file: Path | None, *, option: str, prompt: str = "Value") -> str:
    """A secret from a file, from standard input (``-``), or as somebody types it.

    Raises:
        RequestInvalidError: it cannot be read, or nobody is there to type it.
    """
    if file is None:
        if not sys.stdin.isatty():
            raise RequestInvalidError(f"give it with {option} FILE, or - for standard input")
        return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=True))
    try:
        # One more than fits, with its newline: what is larger is refused by the server, with its size.
        if str(file) == "-":
            text = sys.stdin.read(MAX_BYTES + 3)
        else:
            with file.open(encoding="utf-8", newline="") as opened:
                text = opened.read(MAX_BYTES + 3)
        return text.removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise RequestInvalidError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RequestInvalidError(f"{file} is not UTF-8 text") from None


def read_credential(username: str | None, password_file: Path | None, bearer_file: Path | None) -> str | None:
    """What another registry is asked with, of what was given; ``None``: nothing.

    Raises:
        RequestInvalidError: too much, too little, or a file that cannot be read.
    """
    if bearer_file is not None and (username is not None or password_file is not None):
        raise RequestInvalidError("give --bearer-file, or --username with --password-file, not both")
    if password_file is not None and username is None:
        raise RequestInvalidError("--password-file needs --username")
    if bearer_file is not None:
        return read_value(bearer_file, option="--bearer-file")
    if username is not None:
        return read_value(password_file, option="--password-file", prompt="Password")
    return None


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
