"""Where a command puts a document: the terminal, or a file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import typer

from registry.errors import RequestInvalidError


def require_place(file: Path | None) -> None:
    """Look whether a file can be made, before there is anything to put into it.

    Raises:
        RequestInvalidError: it is a folder, or its folder is not there.
    """
    if file is None:
        return
    if file.is_dir():
        raise RequestInvalidError(f"{file} is a folder; name a file")
    if not file.parent.is_dir():
        raise RequestInvalidError(f"{file.parent}, in which the file would be, is no folder")


def put_out(content: bytes, file: Path | None) -> None:
    """Put a document there; what was in the file before is replaced at once.

    Raises:
        RequestInvalidError: it cannot be written.
    """
    if file is None:
        typer.echo(content, nl=False)
        return
    aside = file.with_name(f".{file.name[:100]}.{os.getpid()}")
    try:
        if file.exists() and not file.is_file():
            file.write_bytes(content)  # a pipe or /dev/stdout
            return
        try:
            aside.write_bytes(content)
            aside.replace(file.resolve())
        finally:
            with suppress(FileNotFoundError):
                aside.unlink()
    except OSError as error:
        raise RequestInvalidError(f"{file} cannot be written: {error.strerror}") from None
