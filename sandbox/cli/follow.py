"""The output of a run as it comes, for whoever watches."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field

import typer

from registry.oci.printable import PrintableLines


@dataclass(slots=True)
class Follower:
    """Prints each line to standard error once it is whole, or longer than 4,096 characters. It is text of a
    stranger: nothing of it reaches the terminal but what can be printed."""

    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"), init=False
    )
    _lines: PrintableLines = field(default_factory=PrintableLines, init=False)

    def take(self, chunk: bytes) -> None:
        """Some more bytes of the output."""
        self._print(self._lines.take(self._decoder.decode(chunk)))

    def end(self) -> None:
        """Print what has no end of line."""
        self._print(self._lines.end())

    def _print(self, lines: Sequence[str]) -> None:
        for line in lines:
            typer.echo(f"  | {line}", err=True)
