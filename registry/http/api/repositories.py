"""``/api/v1/repositories``: what holds images, who may see it, and what a verdict does there."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from registry.auth.access import require_writable
from registry.auth.policy import Visibility
from registry.content import administration as use
from registry.http.api.routes import Body, Call, Route, given_run_spec, page, shown_time
from registry.trials.repositorypolicy import change


class Change(Body):
    """What to change; a run spec is an object or YAML. Null takes a run spec or a quota away."""

    visibility: Visibility | None = None
    gate: Literal["off", "warn", "enforce"] | None = None
    trial_on_push: bool | None = None
    image_spec_allowed: bool | None = None
    run_spec: dict[str, Any] | str | None = None
    quota_bytes: int | None = Field(default=None, ge=0, le=2**62)

    @field_validator("gate", mode="before")
    @classmethod
    def _no_hold_yet(cls, value: object) -> object:
        if value == "hold":
            raise ValueError("'hold' does not exist yet; use off, warn or enforce")
        return value


class NewRepository(Change):
    """A repository to make, empty; what is left out is as the settings say."""

    name: str


async def create_repository(call: Call) -> object:
    """Make an empty repository."""
    body = await call.body(NewRepository)
    wanted = await _wanted(call, body)
    services = call.services
    await use.create(services.database, services.settings, actor=call.actor, name=body.name, wanted=wanted)
    return await _show(call, body.name)


async def list_repositories(call: Call) -> object:
    """Those that the caller may pull from, by name."""
    asked = page(call.query("limit", "cursor"))
    found = await use.list_readable(
        call.services.database, actor=call.actor, limit=asked.limit + 1, after=asked.after
    )
    return asked.answer(found, key=lambda repository: repository.name, show=_shown)


async def show_repository(call: Call) -> object:
    """All about one repository."""
    call.query()
    return await _show(call, call.path("name"))


async def change_repository(call: Call) -> object:
    """Change its visibility, its gate, or what is tried in it."""
    body = await call.body(Change)
    wanted = await _wanted(call, body)
    services = call.services
    await change(
        services.database, services.settings, actor=call.actor, name=call.path("name"), wanted=wanted
    )
    return await _show(call, call.path("name"))


async def delete_repository(call: Call) -> object:
    """Remove it with all it holds."""
    call.query()
    services = call.services
    require_writable(read_only=services.settings.read_only)
    await use.delete(services.database, services.blobs, actor=call.actor, name=call.path("name"))
    return None


async def _show(call: Call, name: str) -> object:
    return _shown(await use.show(call.services.database, actor=call.actor, name=name))


async def _wanted(call: Call, body: Change) -> use.RepositoryChange:
    return use.RepositoryChange(
        visibility=body.visibility,
        gate=body.gate,
        trial_on_push=body.trial_on_push,
        image_spec_allowed=body.image_spec_allowed,
        run_spec=await given_run_spec(call, body.run_spec),
        clear_run_spec="run_spec" in body.model_fields_set and body.run_spec is None,
        quota_bytes=body.quota_bytes,
        clear_quota="quota_bytes" in body.model_fields_set and body.quota_bytes is None,
    )


def _shown(repository: use.RepositoryDetails) -> dict[str, object]:
    return {
        "name": repository.name,
        "visibility": repository.visibility,
        "gate": repository.gate,
        "trial_on_push": repository.trial_on_push,
        "image_spec_allowed": repository.image_spec_allowed,
        "run_spec": repository.run_spec,
        "policy_version": repository.policy_version,
        "quota_bytes": repository.quota_bytes,
        "used_bytes": repository.used_bytes,
        "created_at": shown_time(repository.created_at),
        "tags": repository.tags,
        "images": repository.images,
    }


ROUTES = (
    Route("POST", "/repositories", "admin", create_repository, status=201),
    Route("GET", "/repositories", "anyone", list_repositories),
    Route("GET", "/repositories/{name}", "anyone", show_repository),
    Route("PATCH", "/repositories/{name}", "admin", change_repository),
    Route("DELETE", "/repositories/{name}", "admin", delete_repository),
)
