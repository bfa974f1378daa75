"""Files that only their owner reads (0600): whole or not there, and durable before others rely on them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from registry.storage.files import sync_folder


def write_private(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, in place of what was there."""
    temporary = _written_beside(path, text)
    temporary.replace(path)
    sync_folder(path.parent)


def make_private(path: Path, text: str) -> str:
    """Write ``text`` to ``path`` unless it exists, and return what stands there: of several processes that
    try at once, one wins and all read its text."""
    temporary = _written_beside(path, text)
    try:
        os.link(temporary, path)
        sync_folder(path.parent)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_text(encoding="ascii").strip()


def _written_beside(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    return temporary
