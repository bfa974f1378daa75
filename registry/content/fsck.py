"""All checks of ``seatrial fsck``, in the order in which they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.content.checkingbytes import blobs_and_bytes, bytes_without_rows
from registry.content.checkingmanifests import manifests_and_rows
from registry.content.checkingrows import (
    attested,
    database_file,
    dead_and_alive,
    links_never_reviewed,
    tags_at_nothing,
    uploads,
)
from registry.content.checkingusage import usage_and_rows

if TYPE_CHECKING:
    from registry.content.checking import Check

CHECKS: tuple[tuple[str, Check], ...] = (
    ("database", database_file),
    ("tags", tags_at_nothing),
    ("manifests", manifests_and_rows),
    # After the manifests: what is written anew there may name what nothing named.
    ("links", links_never_reviewed),
    ("dead", dead_and_alive),
    ("usage", usage_and_rows),
    ("attestations", attested),
    ("uploads", uploads),
    ("blobs", blobs_and_bytes),
    ("strays", bytes_without_rows),
)
