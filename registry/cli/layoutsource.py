"""Where an import comes from: a folder, an archive, standard input, or an address of http(s) or ftp."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from registry.errors import RequestInvalidError
from registry.layouts.archive import open_archive, open_path, spool
from registry.layouts.layout import Layout, read_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.layouts.members import Members


@contextmanager
def open_source(text: str, *, ca_file: Path | None) -> Iterator[Layout]:
    """The layout that ``text`` means, while the block runs.

    Raises:
        LayoutError: it is none, or cannot be had.
        RequestInvalidError: an address that is not one.
    """
    members = _members(text, ca_file)
    try:
        yield read_layout(members)
    finally:
        members.close()


def _members(text: str, ca_file: Path | None) -> Members:
    if text == "-":
        if sys.stdin.isatty():
            raise RequestInvalidError("nothing comes from a terminal; pipe an archive in")
        return open_archive(spool(sys.stdin.buffer, "standard input"), "standard input")
    if "://" in text:
        from registry.cli.layoutweb import open_address  # noqa: PLC0415  (slow to import)

        return open_address(urlsplit(text), ca_file=ca_file)
    return open_path(Path(text.removeprefix("oci:")))
