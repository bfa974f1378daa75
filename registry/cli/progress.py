"""The bar of a long command, on a terminal only: what goes into a file or a pipe stays clean."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def leave_out_rich() -> None:
    """Have structlog find no rich when it is imported: it would take it along, a tenth of what a command
    takes to start, for tracebacks that show the values of variables, which are never asked of it.

    A bar takes rich when it is shown.
    """
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]


@contextmanager
def progress_bar(label: str, total: int | None, *, of_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Show ``label`` and how much of ``total``, if it is known, is done on stderr while the block runs.

    What it gives is told how much more is done.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    if sys.modules.get("rich") is None:
        sys.modules.pop("rich", None)
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    numbers = (DownloadColumn(), TransferSpeedColumn()) if of_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *numbers, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=total)
        yield lambda more: bars.advance(task, more)
