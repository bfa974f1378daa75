"""Where an export goes: a folder, a file, standard output, or an address that takes a file."""

from __future__ import annotations

import gzip
import http.client
import os
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import urlsplit

from registry.cli.client import CallError, opener
from registry.errors import RequestInvalidError
from registry.layouts.archivewriting import TarTarget, ZipTarget
from registry.layouts.errors import LayoutError
from registry.layouts.folder import FolderTarget
from registry.oci.printable import printable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.layouts.writing import Target

_SECONDS = 60.0
_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip")


@contextmanager
def open_target(text: str, *, ca_file: Path | None) -> Iterator[Target]:
    """The target that ``text`` means. A file gets its name, an address the file, when the block ends well.

    Raises:
        RequestInvalidError: it cannot be written there.
        CallError: the address does not take it.
    """
    if text == "-":
        if sys.stdout.isatty():
            raise RequestInvalidError("an archive is nothing for a terminal; send it to a file or a pipe")
        try:
            yield TarTarget(sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Or Python tries once more at its end, and says so.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise LayoutError("invalid", "who reads standard output left before the end") from None
    elif text.startswith(("http://", "https://")):
        url = urlsplit(text)
        if "@" in url.netloc:
            raise RequestInvalidError(
                "a name or password in an address can be seen by others; a signed address needs neither"
            )
        with tempfile.TemporaryFile() as spooled:
            file = cast("IO[bytes]", spooled)
            with _archive(file, _ending(url.path)) as target:
                yield target
            _put(text, file, ca_file)
    elif any(text.endswith(ending) for ending in _ENDINGS):
        with _new_file(Path(text)) as file, _archive(file, _ending(text)) as target:
            yield target
    else:
        with FolderTarget(Path(text)) as folder:
            yield folder


def _ending(path: str) -> str:
    for ending in _ENDINGS:
        if path.endswith(ending):
            return ending
    raise RequestInvalidError(f"{printable(path[:200])} ends in none of {', '.join(_ENDINGS)}")


@contextmanager
def _archive(file: IO[bytes], ending: str) -> Iterator[Target]:
    if ending == ".zip":
        yield ZipTarget(file)
    elif ending == ".tar":
        yield TarTarget(file)
    elif ending == ".tar.zst":
        with zstd.ZstdFile(file, "wb") as stream:
            yield TarTarget(cast("IO[bytes]", stream))
    else:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as stream:
            yield TarTarget(cast("IO[bytes]", stream))


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when the block ends well, and is gone when not."""
    part = path.with_name(f".{path.name}.unfinished")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise RequestInvalidError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _put(url: str, file: IO[bytes], ca_file: Path | None) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    pieces = iter(lambda: file.read(1024 * 1024), b"")
    headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
    request = urllib.request.Request(url, data=pieces, headers=headers, method="PUT")  # noqa: S310  (http only)
    shown = printable(urlsplit(url)._replace(query="").geturl()[:200])
    try:
        with opener(url, ca_file).open(request, timeout=_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        with error:
            raise CallError(
                f"{shown} answers {error.code} {printable(error.reason)}", status=error.code
            ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CallError(f"{shown} cannot be reached: {error}", status=0) from None
