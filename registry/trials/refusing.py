"""How a reader is told: of a refusal with the trial that is its reason, of a warning in a header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.db.trials import trials
from registry.errors import GateRefusedError
from registry.trials.asking import Reading
from registry.trials.findingsreading import why_refused
from registry.trials.gate import Refuse

_WARNING_MAX = 1000


async def refused(
    reading: Reading, refusal: Refuse, *, digest: str | None = None, base_url: str = ""
) -> GateRefusedError:
    """The error that tells of the refusal."""
    trial, count = None, 0
    findings: Sequence[Mapping[str, object]] = ()
    if digest is not None:
        async with reading.database.read() as connection:
            trial = await _newest_trial(connection, reading.repository.id, digest)
            findings, count = await why_refused(connection, reading.repository.id, digest)
    address = "" if trial is None else f" (see {base_url}/trials/{trial})"
    headers, advice = {}, ""
    if refusal.retry_after_seconds is not None:
        headers["Retry-After"] = str(refusal.retry_after_seconds)
        advice = f"; try again in {refusal.retry_after_seconds} seconds"
    return GateRefusedError(
        f"{refusal.sentence}{advice}{address}",
        repository=reading.repository.name,
        reason=refusal.sentence,
        digest=digest,
        trial=trial,
        findings=findings,
        findings_count=count,
        headers=headers,
    )


async def _newest_trial(connection: AsyncConnection, repository_id: int, digest: str) -> str | None:
    query = (
        select(trials.c.id)
        .where(trials.c.repository_id == repository_id, trials.c.digest == digest)
        .order_by(trials.c.created_at.desc(), trials.c.id.desc())
        .limit(1)
    )
    return (await connection.execute(query)).scalar_one_or_none()


def warning(text: str) -> Mapping[str, str]:
    """The header that says so to a reader who is let pass."""
    return {"Warning": f'299 - "{_header_text(text)}"'}


def _header_text(text: str) -> str:
    """``text`` within a quoted string of RFC 9110: printable ASCII without quotes and backslashes."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" if c in '"\\' else " " for c in text)
    return plain[:_WARNING_MAX]
