"""Events as receivers get them: a CloudEvent (1.0, structured), or Docker distribution's notification."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Format = Literal["cloudevents", "docker"]
CONTENT_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "cloudevents": "application/cloudevents+json; charset=utf-8",
        "docker": "application/vnd.docker.distribution.events.v1+json",
    }
)
TYPE_PREFIX = "seatrial."
TEST_KIND = "webhook.test"
_DOCKER_ACTIONS: Mapping[str, str] = MappingProxyType(
    {"manifest.pushed": "push", "manifest.deleted": "delete", "tag.deleted": "delete"}
)


@dataclass(frozen=True, slots=True)
class Image:
    """What is known of an image that an event is about: where it comes from, by its annotations or labels
    (``org.opencontainers.image.source`` and ``.revision``), and who pushed it, with the job's claims."""

    digest: str
    media_type: str
    size: int
    source: str | None
    revision: str | None
    pushed_by: str
    workload: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Told:
    """One event. ``position`` is where it stands in the feed, 0 for a test."""

    position: int
    kind: str
    at: datetime
    repository: str | None
    target: str | None
    actor: str
    actor_kind: str | None
    decision: str
    rule: str | None
    data: Mapping[str, Any]
    image: Image | None = None

    @property
    def tag(self) -> str | None:
        """The tag that it is about."""
        found = self.data.get("tag")
        return found if isinstance(found, str) else None


def digest_in(data: Mapping[str, Any]) -> str | None:
    """The manifest that an event with such data is about."""
    found = data.get("digest") or data.get("new_digest") or data.get("old_digest")
    return found if isinstance(found, str) else None


def body_of(told: Told, kind: Format, *, source: str) -> str:
    """What is sent, as JSON in ASCII; ``source`` is the registry's address."""
    event = _cloudevent(told, source) if kind == "cloudevents" else _notification(told, source)
    return json.dumps(event, separators=(",", ":"), ensure_ascii=True)


def content_of(told: Told) -> dict[str, Any]:
    """The event as JSON shows it, in the feed and as ``data`` of a CloudEvent."""
    shown: dict[str, Any] = {
        "kind": told.kind,
        "repository": told.repository,
        "target": told.target,
        "actor": {"name": told.actor, "kind": told.actor_kind},
        "decision": told.decision,
        "rule": told.rule,
        "details": dict(told.data),
    }
    if told.image is not None:
        shown["image"] = asdict(told.image)
    return shown


def shown_time(at: datetime) -> str:
    """RFC 3339."""
    return at.isoformat().replace("+00:00", "Z")


def _id(told: Told) -> str:
    return str(told.position) if told.position else f"test-{told.at.timestamp()}"


def _cloudevent(told: Told, source: str) -> dict[str, Any]:
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": _id(told),
        "source": source,
        "type": TYPE_PREFIX + told.kind,
        "time": shown_time(told.at),
        "datacontenttype": "application/json",
        "data": content_of(told),
    }
    subject = told.repository or told.target
    if subject:
        event["subject"] = subject
    return event


def _notification(told: Told, source: str) -> dict[str, Any]:
    """As Docker distribution tells of it; what it has no word for keeps our kind as action. A push under
    several tags is one event for each."""
    digest = digest_in(told.data)
    target: dict[str, Any] = {}
    if told.repository is not None:
        target["repository"] = told.repository
    if digest is not None:
        target["digest"] = digest
        target["url"] = f"{source.rstrip('/')}/v2/{told.repository}/manifests/{digest}"
    if told.image is not None:
        size = told.image.size
        target |= {"mediaType": told.image.media_type, "size": size, "length": size}
    tags = [told.tag] if told.tag else list(told.data.get("tags") or [None])
    event = {
        "timestamp": shown_time(told.at),
        "action": _DOCKER_ACTIONS.get(told.kind, told.kind),
        "request": {},
        "actor": {"name": told.actor},
        "source": {"addr": source},
        "seatrial": content_of(told),
    }
    return {
        "events": [
            {
                "id": _id(told) if len(tags) == 1 else f"{_id(told)}-{number}",
                **event,
                "target": {**target, "tag": tag} if tag else target,
            }
            for number, tag in enumerate(tags)
        ]
    }
