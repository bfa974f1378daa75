"""``/api/v1/settings``: what the registry was started with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from registry.http.api.models import Answer, Page
from registry.http.api.routes import Call, Route
from registry.settings import PREFIX, SECRET_FILES

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from registry.settings import Settings


class Setting(Answer):
    """A setting as this process of the registry has it."""

    name: str
    variable: str = Field(description="The variable of the environment that sets it.")
    value: str | None = Field(
        description="As the variable takes it. Null: nothing was given, or it is an address that may have a "
        "password in it."
    )
    is_default: bool
    is_secret: bool
    description: str


async def list_settings(call: Call) -> Page[Setting]:
    """What the registry was started with: each setting, and whether it is the default. No secrets.

    Another replica may have other ones."""
    return Page(items=list(_shown(call.services.settings)), next=None)


def _shown(settings: Settings) -> Iterator[Setting]:
    now = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        default = field.get_default(call_default_factory=True)
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            given = getattr(settings, name)
            for member, inner in group.model_fields.items():
                usual = getattr(given, member) == getattr(default, member)
                yield _setting(f"{name}.{member}", now[name].get(member), inner, is_default=usual)
        else:
            yield _setting(name, now[name], field, is_default=getattr(settings, name) == default)


def _setting(name: str, value: object, field: FieldInfo, *, is_default: bool) -> Setting:
    is_secret = name in SECRET_FILES
    return Setting(
        name=name,
        variable=PREFIX + name.replace(".", "__").upper(),
        value=None if is_secret else _text(value),
        is_default=is_default,
        is_secret=is_secret,
        description=field.description or "",
    )


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ",".join(value)
    return json.dumps(value)


ROUTES = (Route("GET", "/settings", "admin", list_settings),)
