"""States of images: what stands on the row, and what follows from time and people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal, Protocol, cast

from registry.trials.gate import EffectiveState

REASON_MAX = 500
PASSED = ("pass", "warn", "not-applicable")
BAD = ("fail", "error", "pending")
"""In what states an image that had passed has turned bad."""
WITHOUT_VERDICT = ("untried", "grandfathered", "unsupported", "pending")
STRICTNESS: Mapping[str, int] = MappingProxyType({"off": 0, "warn": 1, "enforce": 2, "hold": 2})
"""Of each gate: what is refused under ``hold`` was refused under ``enforce`` already."""


class ImageState(Protocol):
    """The columns of a manifest's row that its state is made of."""

    @property
    def state(self) -> str: ...
    @property
    def state_reason(self) -> str: ...
    @property
    def state_at(self) -> datetime: ...
    @property
    def grandfathered_until(self) -> datetime | None: ...
    @property
    def blocked_reason(self) -> str | None: ...
    @property
    def turned_bad_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Effective:
    """The state that counts at a time, and why."""

    state: EffectiveState
    reason: str


def effective_state(image: ImageState, *, now: datetime, max_age: timedelta | None) -> Effective:
    """blocked > expired > what stands on the row.

    ``now`` is the database's time; ``max_age`` is how long a good verdict holds, ``None`` for ever. Where a
    grandfathered image's date has passed, what is left is an image that was never tried.
    """
    if image.blocked_reason is not None:
        return Effective("blocked", image.blocked_reason)
    if image.state in ("pass", "warn") and max_age is not None and image.state_at + max_age <= now:
        return Effective(
            "expired", f"judged on {image.state_at:%Y-%m-%d}, and verdicts hold {max_age.days} days"
        )
    if image.state == "grandfathered" and (
        image.grandfathered_until is None or image.grandfathered_until <= now
    ):
        why = image.state_reason or "it was there before the gate"
        return Effective("untried", f"{why}, and the date set for that has passed")
    return Effective(cast(EffectiveState, image.state), image.state_reason)


@dataclass(frozen=True, slots=True)
class BadPolicy:
    """What a repository does with images that passed and turn bad: ``block`` after so many ``days``."""

    action: Literal["keep", "warn", "block"]
    days: int

    def until(self, image: ImageState) -> datetime | None:
        """Until when the image is let pass; ``None`` where it did not turn bad, or for ever."""
        if image.turned_bad_at is None or self.action != "block" or image.state not in BAD:
            return None
        return image.turned_bad_at + timedelta(days=self.days)

    def kept(self, image: ImageState, *, now: datetime) -> Literal["", "keep", "warn"]:
        """How the image is let pass that turned bad; empty where it is not."""
        if image.turned_bad_at is None or image.state not in BAD:
            return ""
        if self.action != "block":
            return self.action
        return "warn" if now < image.turned_bad_at + timedelta(days=self.days) else ""


def bad_policy(action: Literal["keep", "warn", "block"] | None, days: int | None) -> BadPolicy:
    """The policy of a repository's row."""
    return BadPolicy(action or "block", days or 0)


def depends_on_time(image: ImageState, *, max_age: timedelta | None) -> bool:
    """Whether :func:`effective_state` needs to know the time."""
    return (
        image.turned_bad_at is not None
        or image.state == "grandfathered"
        or (max_age is not None and image.state in ("pass", "warn"))
    )


def holds_until(image: ImageState, *, now: datetime, max_age: timedelta | None) -> datetime | None:
    """When :func:`effective_state` will answer something else though nobody writes; ``None`` for never."""
    if image.state == "grandfathered":
        changes_at = image.grandfathered_until
    elif image.state in ("pass", "warn") and max_age is not None:
        changes_at = image.state_at + max_age
    else:
        return None
    return changes_at if changes_at is not None and changes_at > now else None


def plain_text(text: str) -> str:
    """``text`` of a worker as one line that is safe to print: what an image wrote must not move a cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " for c in text)
