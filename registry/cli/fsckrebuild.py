"""``seatrial fsck --rebuild``: a database from a store alone, with what is told on the way."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer

from registry.cli.output import print_fields, print_json
from registry.cli.process import open_blob_store
from registry.cli.progress import progress_bar
from registry.cli.upgrading import look, upgrade_and_tell
from registry.content import rebuilding
from registry.db.engine import Database
from registry.db.inuse import is_served
from registry.db.migrate import upgrade
from registry.errors import ConflictError
from registry.oci.names import parse_repository_name
from registry.storage.threads import Threads
from registry.trials.effects import TrialEffects
from registry.trials.identities import load_trust

if TYPE_CHECKING:
    from registry.content.rebuilding import Rebuilt
    from registry.settings import Settings

_SHOWN = ("blobs", "bytes", "manifests", "images", "incomplete", "loose")
_TAGS_SHOWN = 20


def run_rebuild(settings: Settings, *, into: str, mend: bool, as_json: bool) -> None:
    """Run the command; without ``mend`` only tell what would be made.

    Raises:
        NameInvalidError: ``into`` is no name of a repository.
        ConflictError: a server uses the database, or it has another schema.
        SettingsError: the database or the store cannot be used.
    """
    parse_repository_name(into)
    stands = look(settings)
    if stands.before is not None:
        if is_served(settings.effective_database_url):
            raise ConflictError("a server uses the database: stop it first")
        if stands.before != stands.after:
            raise ConflictError("the database has another schema: seatrial db upgrade")
    with TemporaryDirectory() as folder:
        if mend:
            upgrade_and_tell(settings)
        elif stands.before is None:
            # The store needs one to be read, and nothing is to be changed.
            url = f"sqlite:///{Path(folder) / 'seatrial.db'}"
            upgrade(url)
            settings = settings.model_copy(update={"database_url": url})
        done = asyncio.run(_rebuild(settings, into=into, mend=mend))
    if as_json:
        print_json({"rebuilt": mend, "into": into, **asdict(done)})
        return
    print_fields(asdict(done), _SHOWN)
    for tag in done.tags[:_TAGS_SHOWN]:
        typer.echo(f"{into}:{tag}")
    if len(done.tags) > _TAGS_SHOWN:
        typer.echo(f"… and {len(done.tags) - _TAGS_SHOWN} more tags")
    typer.echo("" if mend else "\nNothing was changed. Add --mend to make the rows.")


async def _rebuild(settings: Settings, *, into: str, mend: bool) -> Rebuilt:
    async with AsyncExitStack() as stack:
        database = Database(settings.effective_database_url)
        stack.push_async_callback(database.close)
        store = await open_blob_store(settings, database)
        stack.push_async_callback(store.close)
        threads = Threads("fsck", 2)
        stack.callback(threads.close)
        with progress_bar("Blobs read", None) as advance:
            found = await rebuilding.survey(database, store, into=into, threads=threads, advance=advance)
        done, made = rebuilding.plan(found)
        if mend:
            await rebuilding.rebuild(
                database,
                store,
                found,
                made,
                into=into,
                settings=settings,
                effects=TrialEffects(settings, load_trust(settings.signature_trust_file)),
                threads=threads,
            )
        return done
