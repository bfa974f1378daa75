"""Nobody pushes what the registry said once of an image of the same repository: as a referrer like any it
would be the registry's word beside a newer one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.db.accounts import keys
from registry.errors import DeniedError
from registry.trials.sigstore import BundleInvalidError, is_signed_by, parse_bundle, parse_statement
from registry.trials.verifying import parse_keys

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.effects import ManifestPushed


async def require_not_our_own(connection: AsyncConnection, pushed: ManifestPushed) -> None:
    """Let no statement come in that a key of the registry signed about this repository. What it says now is
    there already, and stored by itself.

    Raises:
        DeniedError: it is one.
    """
    if pushed.bundle is None or not pushed.created:
        return
    try:
        bundle = parse_bundle(pushed.bundle)
        names = parse_statement(bundle.payload).subjects.values()
    except BundleInvalidError:
        return
    here = any(f"/{name}".endswith(f"/{pushed.repository}") for name in names)
    if not here or bundle.certificate is not None:
        return
    ours = select(keys.c.public_pem).where(keys.c.ring == "attestation").order_by(keys.c.created_at)
    for pem in (await connection.execute(ours)).scalars():
        if any(is_signed_by(bundle, key) for key in parse_keys(pem)):
            raise DeniedError(
                f"{pushed.digest} is what the registry attested of an image here once, and does not any more"
            )
