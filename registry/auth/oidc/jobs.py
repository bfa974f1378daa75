"""What the claims of a job tell of it, pure: the address of its run, and the commit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from registry.auth.actor import Workload
from registry.errors import RequestInvalidError

MAX_URL = 1000
MAX_COMMIT = 200
_BRACES = re.compile(r"\{([A-Za-z0-9_.:/-]{1,100})\}")
_RUN_URL = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+/[!-~]*")


def require_run_url(template: str) -> None:
    """Check a template such as ``https://ci.example/{project_path}/jobs/{job_id}``.

    Raises:
        RequestInvalidError: no http address of a fixed host, or braces that name no claim.
    """
    rest = _BRACES.sub("", template)
    if len(template) > MAX_URL or not _RUN_URL.fullmatch(template) or "{" in rest or "}" in rest:
        raise RequestInvalidError(
            "run_url is http(s)://HOST/ and a path, in which {CLAIM} stands for the value of a claim"
        )


def workload_of(
    claims: Mapping[str, object], *, issuer: str, rule: str, run_url: str | None, commit_claim: str | None
) -> Workload:
    """The job that the claims tell of; what they do not tell as text stays unknown."""
    commit = _text(claims, commit_claim) if commit_claim else None
    return Workload(
        issuer=issuer,
        rule=rule,
        subject=str(claims["sub"]),
        run=_filled(run_url, claims) if run_url else None,
        commit=commit if commit and len(commit) <= MAX_COMMIT and commit.isprintable() else None,
    )


def _filled(template: str, claims: Mapping[str, object]) -> str | None:
    values = {name: _text(claims, name) for name in _BRACES.findall(template)}
    if any(not value for value in values.values()):
        return None
    # Quoted, so that no claim adds a query, a host or anything but parts of the path.
    filled = _BRACES.sub(lambda match: quote(values[match[1]] or "", safe="/"), template)
    return filled if len(filled) <= MAX_URL else None


def _text(claims: Mapping[str, object], name: str) -> str | None:
    value = claims.get(name)
    if isinstance(value, bool):
        return None
    return str(value) if isinstance(value, str | int) else None
