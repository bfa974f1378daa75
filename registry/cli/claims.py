"""Options about claims: ``CLAIM=VALUE`` is exact, ``CLAIM~GLOB`` has wildcards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer

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
    return [_condition(text) for text in texts]


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


def shown_condition(condition: dict[str, str]) -> str:
    """As the option takes it."""
    if "equals" in condition:
        return f"{condition['claim']}={condition['equals']}"
    return f"{condition['claim']}~{condition['glob']}"


def _condition(text: str) -> dict[str, str]:
    match = re.fullmatch(r"([^=~]+)([=~])(.+)", text, re.DOTALL)
    if match is None:
        raise RequestInvalidError(f"--claim takes CLAIM=VALUE or CLAIM~GLOB; {text!r} is neither")
    return {"claim": match[1], "equals" if match[2] == "=" else "glob": match[3]}
