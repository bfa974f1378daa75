"""The rules of ``seatrial sync``: what is brought from which other registry, as a file says it (TOML)."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.errors import RequestInvalidError
from registry.oci.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

RULES_MAX = 1000


class Rule(BaseModel):
    """One rule; of paths that are not absolute the folder of the file is the begin."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    url: str = Field(alias="from")
    repositories: list[str] = Field(default=[], description="names and patterns; none: all that it lists")
    exclude: list[str] = []
    tags: list[str] = []
    versions: list[str] = []
    into: str | None = None
    keep: bool = False
    username: str | None = None
    password_file: str | None = None
    bearer_file: str | None = None
    token_host: str = ""
    grandfathered: str | None = Field(default=None, description="for how long, as in 30d")
    parallel: int = Field(default=4, ge=1, le=32)


class _Rules(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    sync: list[Rule] = Field(min_length=1, max_length=RULES_MAX)


def parse_rules(text: str) -> Sequence[Rule]:
    """The rules of a file.

    Raises:
        RequestInvalidError: it is not TOML, or a rule is none; with its place and the reason.
    """
    try:
        return _Rules.model_validate(tomllib.loads(text)).sync
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RequestInvalidError(f"the rules are not TOML: {error}") from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = (f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in found[:5])
        raise RequestInvalidError(f"the rules cannot be used: {printable('; '.join(problems))}") from None
