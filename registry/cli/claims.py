"""Options about claims: ``CLAIM=VALUE`` is exact, ``CLAIM~GLOB`` has wildcards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from registry.auth.oidc.conditiontext import parse_condition
from registry.errors import RequestInvalidError

ConditionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--claim",
        metavar="CLAIM=VALUE|CLAIM~GLOB",
        help="What a claim has to be: exactly VALUE, or as GLOB says, where '*' is any text without '/' and "
        "':', and '**' any text. Can be repeated; all have to hold.",
    ),
]


def conditions(texts: Sequence[str]) -> list[dict[str, str]]:
    """As the API takes them.

    Raises:
        RequestInvalidError: not of that form.
    """
    return [parse_condition(text) for text in texts]


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """``VALUE=NAME`` several times.

    Raises:
        RequestInvalidError: not of that form, or a value twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        value, equals, name = text.rpartition("=")
        if not equals or not value or not name or value in found:
            raise RequestInvalidError(f"{option} takes VALUE=NAME, each value once; {text!r} is not that")
        found[value] = name
    return found
