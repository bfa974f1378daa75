"""Conditions on claims in forms: one in a line, as commands take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.oidc.conditiontext import parse_condition, shown_condition
from registry.http.api.issuers import ClaimCondition
from registry.pages.serving import as_body

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


def shown_conditions(conditions: Sequence[ClaimCondition]) -> str:
    """As they were typed."""
    return "\n".join(shown_condition(one.model_dump()) for one in conditions)
