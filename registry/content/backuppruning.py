"""Old backups go, and with them the blobs that no other backup names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.content.backupmaking import SHARDS

if TYPE_CHECKING:
    from registry.content.backups import Backup, Backups


@dataclass(frozen=True, slots=True)
class Pruned:
    """Backups that went and stay, the oldest first, and what went beside the former."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    blobs: int
    bytes: int


async def prune(backups: Backups, *, keep: int, dry_run: bool) -> Pruned:
    """Remove all but the newest ``keep``, and whatever interrupted ones have left.

    A backup goes before what it is made of: whenever this is killed, those that are listed are whole.

    Raises:
        ConflictError: something else writes there; the list of a backup that stays is damaged.
    """
    async with backups.target.alone():
        found = await backups.all()
        staying, going = found[-keep:], found[:-keep]
        # All lists are read before anything goes.
        named: set[str] = set()
        for backup in staying:
            named |= {listed.name async for listed in backups.listed(backup)}
        if not dry_run:
            for backup in going:
                await backups.target.delete(f"backups/{backup.id}.json")
            await _remove_files(backups, staying)
        blobs, size = await _remove_blobs(backups, named, dry_run=dry_run)
    return Pruned(tuple(one.id for one in going), tuple(one.id for one in staying), blobs, size)


async def _remove_files(backups: Backups, staying: list[Backup]) -> None:
    ids = {backup.id for backup in staying}
    for folder in ("rows", "lists", "keys"):
        for file in await backups.target.sizes(folder):
            # An id has one dot, before its milliseconds.
            if ".".join(file.split(".")[:2]) not in ids:
                await backups.target.delete(f"{folder}/{file}")


async def _remove_blobs(backups: Backups, named: set[str], *, dry_run: bool) -> tuple[int, int]:
    blobs = size = 0
    for shard in SHARDS:
        for file, length in (await backups.target.sizes(f"blobs/{shard}")).items():
            if f"blobs/{shard}/{file.removesuffix('.age')}" not in named:
                blobs, size = blobs + 1, size + length
                if not dry_run:
                    await backups.target.delete(f"blobs/{shard}/{file}")
    return blobs, size
