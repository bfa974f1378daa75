"""Conditions on claims in forms: one in a line, as commands take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.oidc.conditiontext import parse_condition, shown_condition
from registry.errors import RequestInvalidError
from registry.http.api.issuers import ClaimCondition
from registry.pages.serving import FormInvalidError, as_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.pages.serving import Fields


def conditions_in(fields: Fields) -> tuple[ClaimCondition, ...]:
    """The conditions that somebody typed.

    Raises:
        RequestInvalidError: a line that is none.
    """
    lines = [line.strip() for line in fields.get("conditions", "").split("\n")]
    return tuple(as_body(ClaimCondition, parse_condition(line)) for line in lines if line)


def shown_conditions(conditions: Sequence[ClaimCondition]) -> list[str]:
    """Each as it was typed."""
    return [shown_condition(one.model_dump()) for one in conditions]


def require_showable(conditions: Sequence[ClaimCondition], command: str) -> None:
    """Let a form be saved that was drawn of these conditions: as lines they read back as what they are. The
    API takes others: with a line break, with blanks around them, with ``=`` or ``~`` in a claim's name.

    Raises:
        FormInvalidError: one does not; ``command`` changes what the form would.
    """
    for one, line in zip(conditions, shown_conditions(conditions), strict=True):
        if not _reads_back(line, one):
            raise FormInvalidError(
                f"nothing was changed: there is the condition {line[:200]!r}, which a form would take for "
                f"another one; {command} changes the rest and leaves it as it is, or replaces it by --claim",
                names=["conditions"],
            )


def _reads_back(line: str, condition: ClaimCondition) -> bool:
    try:
        # Browsers make a line break of a carriage return.
        return conditions_in({"conditions": line.replace("\r", "\n")}) == (condition,)
    except RequestInvalidError:
        return False
