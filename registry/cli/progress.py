"""The bar of a long command, on a terminal only: what goes into a file or a pipe stays clean."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextmanager
def progress_bar(label: str, total: int | None, *, of_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Show ``label`` and how much of ``total``, if it is known, is done on stderr while the block runs.

    What it gives is told how much more is done.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    numbers = (DownloadColumn(), TransferSpeedColumn()) if of_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *numbers, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=total)
        yield lambda more: bars.advance(task, more)
