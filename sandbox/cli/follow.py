"""The output of a run as it comes, for whoever watches."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

import typer

from registry.oci.printable import printable

_LINE_CHARACTERS = 4096


@dataclass(slots=True)
class Follower:
    """Prints each line to standard error once it is whole, or longer than 4,096 characters. It is text of a
    stranger: nothing of it reaches the terminal but what can be printed."""

    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"), init=False
    )
    _rest: str = field(default="", init=False)

    def take(self, chunk: bytes) -> None:
        """Some more bytes of the output."""
        *lines, self._rest = (self._rest + self._decoder.decode(chunk)).split("\n")
        for line in lines:
            self._print(line)
        if len(self._rest) > _LINE_CHARACTERS:
            self.end()

    def end(self) -> None:
        """Print what has no end of line."""
        if self._rest:
            self._print(self._rest)
            self._rest = ""

    def _print(self, line: str) -> None:
        typer.echo(f"  | {printable(line.rstrip(chr(13)).expandtabs())}", err=True)
