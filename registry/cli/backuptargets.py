"""Where backups are kept, as a command names it; the keys that read them, and room for their rows."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from registry.content.backups import HEAD
from registry.settings import SettingsError
from registry.storage.age import parse_identities
from registry.storage.backuptarget import FolderTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.settings import Settings
    from registry.storage.age import Identity
    from registry.storage.backuptarget import BackupTarget


async def open_target(target: str, settings: Settings, credentials: Path | None) -> BackupTarget:
    """The folder or bucket that ``target`` means.

    Raises:
        SettingsError: it means neither, or the bucket cannot be used.
    """
    if target.startswith("s3://"):
        # Its libraries take 25 MB, which a folder does not need.
        from registry.storage.s3target import open_s3_target  # noqa: PLC0415

        try:
            return await open_s3_target(
                target, credentials_file=credentials or settings.storage_credentials_file
            )
        except SettingsError as error:
            # The same is said of the registry's own store, which is a setting.
            said = error.message.replace("storage_credentials_file", "--credentials")
            raise SettingsError(said.replace("storage_url", "the target", 1)) from None
    return FolderTarget(_folder(target))


def is_target(text: str) -> bool:
    """Whether it means a folder that holds backups."""
    try:
        return (_folder(text) / HEAD).is_file()
    except (SettingsError, OSError):  # no folder, or none that can be looked at
        return False


def _folder(target: str) -> Path:
    url = urlsplit(target)
    if url.scheme == "file" and not url.netloc and url.path.startswith("/"):
        return Path(unquote(url.path))
    if "://" in target or not target:
        raise SettingsError("the target must be a folder, file:///FOLDER or s3://BUCKET/PREFIX?…")
    return Path(target).absolute()


def read_identities(file: Path | None) -> tuple[Identity, ...]:
    """The private keys in a file; none: no file was given.

    Raises:
        SettingsError: it cannot be read, or has none.
    """
    if file is None:
        return ()
    try:
        return parse_identities(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--identity: {file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"--identity: {file}: {error}") from None


@contextmanager
def work_folder(data: Path) -> Iterator[Path]:
    """A folder of our own in the data folder; those of commands that were killed go."""
    for left in data.glob("backup-work-*"):
        with _locked(left) as free:
            if free:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="backup-work-", dir=data) as name, _locked(Path(name)):
        yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
