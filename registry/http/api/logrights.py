"""Who reads what an image wrote, and what was found in it: those who may push or start trials where it is,
and auditors."""

from __future__ import annotations

from registry.auth.actor import Actor
from registry.auth.policy import Visibility
from registry.errors import DeniedError, UnauthorizedError
from registry.trials.asking import may_read_log


def require_log(actor: Actor, *, repository: str, visibility: Visibility) -> None:
    """As :func:`~registry.trials.asking.may_read_log`.

    Raises:
        UnauthorizedError, DeniedError: it may not.
    """
    if may_read_log(actor, repository=repository, visibility=visibility):
        return
    if actor.kind == "anonymous":
        raise UnauthorizedError(f"sign in to read the log: it is for those who may push to {repository}")
    raise DeniedError(
        f"the log is for those who may push to {repository}; verdict and reason are for all readers"
    )


def require_scans(actor: Actor, *, repository: str, visibility: Visibility) -> None:
    """As :func:`require_log`, for what scans found: a list of weaknesses is not for everybody who may pull.

    Raises:
        UnauthorizedError, DeniedError: it may not.
    """
    if may_read_log(actor, repository=repository, visibility=visibility):
        return
    if actor.kind == "anonymous":
        raise UnauthorizedError(f"sign in to read scans: they are for those who may push to {repository}")
    raise DeniedError(f"scans are for those who may push to {repository}, or start trials there")
