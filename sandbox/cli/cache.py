"""``seatrial worker cache``: what is in a cache folder, and making room in it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.contract.sizes import parse_share_bytes, shown_size
from registry.errors import RequestInvalidError
from sandbox.cli.workshop import JsonOption

if TYPE_CHECKING:
    from sandbox.images.cache import Cache
    from sandbox.images.collect import CacheLimits, Entry

app = typer.Typer(no_args_is_help=True, help="Look at the folder of layers of a worker, and make room in it.")
CacheArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="The cache folder: --cache of a worker, or STATE/cache.")
]


def cache_limits(size: str | None, keep_free: str | None, cache: Cache) -> CacheLimits:
    """What ``--cache-size`` and ``--keep-free`` say for this cache.

    Raises:
        RequestInvalidError: one of them is no size, or there could never be an image.
    """
    from sandbox.images.collect import CacheLimits, default_limits, disk_bytes  # noqa: PLC0415

    total = disk_bytes(cache)
    default = default_limits(cache)
    limits = CacheLimits(
        quota_bytes=default.quota_bytes if size is None else parse_share_bytes(size, total),
        reserve_bytes=default.reserve_bytes if keep_free is None else parse_share_bytes(keep_free, total),
    )
    if limits.quota_bytes == 0:
        raise RequestInvalidError(f"--cache-size {size}: that leaves no room for any image")
    if limits.reserve_bytes >= total:
        raise RequestInvalidError(
            f"--keep-free {keep_free}: that leaves no room for any image on a disk of {shown_size(total)}"
        )
    return limits


@app.command("list")
def list_command(*, folder: CacheArgument, as_json: JsonOption = False) -> None:
    """List what is in the cache, least recently used first."""
    from sandbox.images.collect import default_limits, list_entries, look  # noqa: PLC0415

    cache = _opened(folder)
    entries = list_entries(cache)
    figures = look(cache, default_limits(cache))
    if as_json:
        document = {
            "entries": [_entry(one) for one in entries],
            **{name: value for name, value in asdict(figures).items() if name != "room_bytes"},
        }
        typer.echo(json.dumps(document, indent=2))
        return
    for one in entries:
        used = datetime.fromtimestamp(one.used_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
        state = "in use" if one.in_use else ""
        typer.echo(f"{one.kind:<8} {shown_size(one.size_bytes):>10}  {used}  {state:<6}  {one.path.name}")
    typer.echo(
        f"{figures.blobs} blobs and {figures.snapshots} snapshots, {shown_size(figures.size_bytes)}; "
        f"{shown_size(figures.in_use_bytes)} in use, {shown_size(figures.free_bytes)} of the disk free"
    )


@app.command("prune")
def prune_command(
    *,
    folder: CacheArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="SIZE", help="What may stay: a size (20GiB) or a share of the disk (30%)."
        ),
    ] = "0",
    as_json: JsonOption = False,
) -> None:
    """Remove what was used least recently until no more than --to is left. What a run uses stays."""
    from sandbox.images.collect import CacheLimits, collect, disk_bytes  # noqa: PLC0415

    cache = _opened(folder)
    quota = parse_share_bytes(to, disk_bytes(cache))
    collected = collect(cache, CacheLimits(quota_bytes=quota, reserve_bytes=0))
    if as_json:
        document = {
            "removed": [_entry(one) for one in collected.removed],
            "size_bytes": collected.size_bytes,
            "left_over": list(collected.left_over),
        }
        typer.echo(json.dumps(document, indent=2))
        return
    for line in collected.left_over:
        typer.echo(line)
    typer.echo(f"removed {len(collected.removed)} entries, {shown_size(collected.size_bytes)}")


def _opened(folder: Path) -> Cache:
    from sandbox.images.cache import Cache  # noqa: PLC0415
    from sandbox.rootless import enter_user_namespace  # noqa: PLC0415

    if not (folder / "snapshots").is_dir():
        raise RequestInvalidError(f"{folder} is no cache folder of a worker")
    # What a plain user's worker unpacked belongs to ids that are that user's only inside.
    enter_user_namespace()
    cache = Cache(Path(os.path.abspath(folder)))
    cache.open()
    return cache


def _entry(one: Entry) -> dict[str, object]:
    return {
        "kind": one.kind,
        "name": one.path.name,
        "size_bytes": one.size_bytes,
        "used_at": datetime.fromtimestamp(one.used_ns / 1e9, UTC).isoformat(),
        "in_use": one.in_use,
    }
