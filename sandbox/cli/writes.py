"""``--list-writes`` and ``--keep-writes`` of ``seatrial run``: what the run wrote, for people and scripts."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import typer

from registry.contract.sizes import shown_size
from registry.errors import RequestInvalidError
from registry.oci.printable import printable
from sandbox.errors import SandboxError

if TYPE_CHECKING:
    from sandbox.images.writes import Upper, Write, Writes
    from sandbox.masking import Masker

_LETTERS = {"added": "A", "changed": "C", "replaced": "R", "deleted": "D"}
_SHOWN_MAX = 200


@dataclass(slots=True)
class WritesKeeper:
    """Looks at what each run wrote when it is over, and puts it into ``file`` where there is one."""

    file: Path | None
    masker: Masker
    looks: list[Writes | None] = field(default_factory=list)
    """One for each run, in their order; ``None``: it could not be looked at."""
    problem: str | None = None
    _archive: IO[bytes] | None = None

    def open(self) -> None:
        """Make the file now: a run should not be in vain.

        Raises:
            RequestInvalidError: it cannot be made, or is there already.
        """
        if self.file is None:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._archive = os.fdopen(os.open(self.file, flags, 0o600), "wb")
        except FileExistsError:
            raise RequestInvalidError(f"{self.file} is there already; name a new file") from None
        except OSError as error:
            raise RequestInvalidError(f"{self.file} cannot be made: {error.strerror}") from None

    def look(self, upper: Upper) -> None:
        """What ``try_image`` calls. Blocking."""
        from sandbox.images.writes import collect_writes  # noqa: PLC0415

        try:
            writes = collect_writes(upper, archive=self._archive)
            if self._archive is not None:
                self._archive.flush()
        except OSError as error:
            # The verdict stands all the same.
            self.looks.append(None)
            self.problem = f"what the run wrote was not kept: {error.strerror}"
        else:
            self.looks.append(writes)

    def close(self) -> None:
        """Leave no file where nothing was kept."""
        if self._archive is not None and self.file is not None:
            with suppress(OSError):
                # Of a disk that is full, which is known by now.
                self._archive.close()
            if self._of(0) is None:
                self.file.unlink(missing_ok=True)

    def document(self, number: int) -> dict[str, object] | None:
        """For ``--json``, of the run with this number, from 0 on: null where nothing ran."""
        writes = self._of(number)
        if writes is None:
            return None
        return {
            "entries": self.masker.value([_document(one) for one in writes.entries]),
            "count": writes.count,
            "size_bytes": writes.size_bytes,
            "left_out": writes.left_out,
            "file": None if self.file is None else str(self.file),
        }

    def say(self, number: int, run: str) -> None:
        """For people; ``run`` is what goes before, where there are several."""
        writes = self._of(number)
        if writes is None:
            if self.problem is None:
                typer.echo(f"{run}wrote: not looked at, since nothing ran")
            return
        typer.echo(f"{run}wrote: {writes.count} entries, {shown_size(writes.size_bytes)} of files")
        for write in writes.entries[:_SHOWN_MAX]:
            size = f"  {shown_size(write.size_bytes)}" if write.kind == "file" else ""
            why = f"  (left out: {write.left_out})" if write.left_out else ""
            typer.echo(f"  {_LETTERS[write.change]} {self.masker.text(_shown(write.path))}{size}{why}")
        if writes.count > _SHOWN_MAX:
            typer.echo(f"  … and {writes.count - _SHOWN_MAX} more")
        if self.file is not None:
            left_out = f", {writes.left_out} left out" if writes.left_out else ""
            typer.echo(f"kept in {self.file}{left_out}")

    def complain(self) -> None:
        """After the verdict was said.

        Raises:
            SandboxError: ``worker-disk``: what was written could not be looked at, or kept.
        """
        if self.problem is not None:
            raise SandboxError("worker-disk", self.problem)

    def _of(self, number: int) -> Writes | None:
        return self.looks[number] if number < len(self.looks) else None


def _shown(path: bytes) -> str:
    return printable(path.decode("utf-8", "backslashreplace"))


def _document(write: Write) -> dict[str, object]:
    document: dict[str, object] = {
        # Bytes that are no text stand as \xNN.
        "path": write.path.decode("utf-8", "backslashreplace"),
        "change": write.change,
    }
    if write.kind is not None:
        document |= {
            "kind": write.kind,
            "size_bytes": write.size_bytes,
            "mode": f"{write.mode:04o}",
            "uid": write.uid,
            "gid": write.gid,
        }
    if write.left_out is not None:
        document["left_out"] = write.left_out
    return document
