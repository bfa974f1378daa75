"""What a repository keeps and what goes, as a policy says it: pure.

Nothing goes that a tag rule protects, a request for a promotion names, or a rule of the policy keeps. Where
something is not known, it stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from registry.content.tagmatching import TagPattern, parse_matcher
from registry.errors import RequestInvalidError
from registry.oci.versions import NO_VERSION

Order = Literal["updated", "version"]
RULES_MAX = 20
LAST_MAX = 10_000
DAYS_MAX = 3650
CAP_MAX = 100_000
ALL = TagPattern("glob", "*")
_ATTACHED = re.compile(r"(sha256|sha512)-([0-9a-f]{64}|[0-9a-f]{128})(\.[a-zA-Z0-9._-]+)?")
FAILED = ("fail", "error")
"""States of images that a trial spoke against."""


@dataclass(frozen=True, slots=True)
class KeepRule:
    """Tags that stay: of those that ``tags`` means the ``last`` so many by ``order``, and those that were
    pulled, or that moved, within so many days. With none of the three: all of them."""

    tags: TagPattern = ALL
    last: int | None = None
    order: Order = "updated"
    pulled_days: int | None = None
    moved_days: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether it keeps whatever it is about."""
        return self.last is None and self.pulled_days is None and self.moved_days is None

    @property
    def shown(self) -> str:
        """How people read it."""
        about = "all tags" if self.tags == ALL else f"{self.tags.by} {self.tags.pattern}"
        grounds = []
        if self.last is not None:
            grounds.append(f"the last {self.last} by {'version' if self.order == 'version' else 'time'}")
        if self.pulled_days is not None:
            grounds.append(f"pulled within {self.pulled_days} days")
        if self.moved_days is not None:
            grounds.append(f"moved within {self.moved_days} days")
        return f"{about}: {', or '.join(grounds)}" if grounds else about


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What stays and what goes in a repository.

    - ``keep``: tags that none of these keeps go; without any rule no tag goes.
    - ``failed_days``: tags of images that a trial has spoken against for so long go, unless a rule keeps all
      that it is about; they do not count as one of the last.
    - ``untagged_days``: what no tag reaches, and none has named nor anybody pulled for so long, goes.
    - ``referrers_days``: referrers that are older go, but for the ``referrers_last`` of their type.
    - ``every_hours``, or ``at`` (``HH:MM``, UTC): when; neither: when somebody asks.
    - A run that would delete more than ``cap`` things, or more than ``cap_percent`` of the tags or of the
      manifests that there are, deletes nothing.
    """

    keep: tuple[KeepRule, ...] = ()
    failed_days: int | None = None
    untagged_days: int | None = None
    referrers_days: int | None = None
    referrers_last: int = 1
    every_hours: int | None = None
    at: str | None = None
    cap: int = 1000
    cap_percent: int = 50

    @property
    def document(self) -> str:
        """As rows keep it: canonical JSON."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @property
    def pulls_days(self) -> int | None:
        """How far back the rules look at pulls; ``None``: they do not."""
        return max((rule.pulled_days for rule in self.keep if rule.pulled_days is not None), default=None)


def policy_of(document: str) -> RetentionPolicy:
    """The policy of a row."""
    values: dict[str, Any] = json.loads(document)
    keep = tuple(KeepRule(**{**rule, "tags": TagPattern(**rule["tags"])}) for rule in values.pop("keep"))
    return RetentionPolicy(keep=keep, **values)


def require_valid(policy: RetentionPolicy, *, pulls_kept_days: int) -> None:
    """Refuse what is no policy. Numbers are within their bounds already.

    Raises:
        RequestInvalidError: it does nothing, a pattern is none, it has two schedules, or it asks for pulls
            that are no longer known.
    """
    if not policy.keep and not any((policy.failed_days, policy.untagged_days, policy.referrers_days)):
        raise RequestInvalidError(
            "a retention policy has rules for tags to keep, or says after how many days what failed, has no "
            "tag, or refers to something goes"
        )
    if len(policy.keep) > RULES_MAX:
        raise RequestInvalidError(f"a retention policy has {RULES_MAX} rules at most")
    if policy.every_hours is not None and policy.at is not None:
        raise RequestInvalidError("a retention policy has every_hours, or at, and not both")
    for rule in policy.keep:
        parse_matcher(rule.tags.by, rule.tags.pattern)
    if (policy.pulls_days or 0) > pulls_kept_days:
        raise RequestInvalidError(
            f"pulls of {policy.pulls_days} days are asked for; they are kept for {pulls_kept_days} "
            "(SEATRIAL_AUDIT_KEEP_DAYS)"
        )


class Tag(NamedTuple):
    """What is known of a tag: how old its last move and its image's state are, and how long ago somebody
    pulled it (days; ``None``: nobody has, or nobody asks)."""

    name: str
    moved_days: float
    state: str
    state_days: float
    pulled_days: float | None = None
    is_promoted: bool = False
    """Whether somebody has asked for a promotion from it or to it."""
    belongs_here: bool | None = None
    """Of a tag that says by its name what it is attached to: whether that is there."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether a tag or a manifest goes, and why, or why not."""

    goes: bool
    why: str


def attached_to(tag: str) -> str | None:
    """The digest of what a tag is attached to by its name, as cosign's signatures are (``sha256-….sig``);
    ``None``: it is a tag as others."""
    found = _ATTACHED.fullmatch(tag)
    if found is None or len(found[2]) != (64 if found[1] == "sha256" else 128):
        return None
    return f"{found[1]}:{found[2]}"


class TagJudge:
    """Says of tags whether they go. ``protection`` is by which tag rule a tag stands for good, if by one;
    ``newest`` are, for each rule of the policy, the tags that it keeps as the last ones."""

    def __init__(
        self,
        policy: RetentionPolicy,
        *,
        protection: Callable[[str], str | None],
        newest: Mapping[int, frozenset[str]],
    ) -> None:
        self._policy = policy
        self._protection = protection
        self._newest = newest

    @cached_property
    def _matchers(self) -> Sequence[Callable[[str], bool]]:
        return matchers_of(self._policy)

    def judge(self, tag: Tag) -> Judged:
        """Whether the tag goes."""
        judged = self._by_rules(tag)
        if not judged.goes:
            return judged
        # Last, as these cost more than the rules.
        if tag.is_promoted:
            return Judged(goes=False, why="somebody has asked for a promotion of it")
        if (protected := self._protection(tag.name)) is not None:
            return Judged(goes=False, why=f"it is immutable by {protected}")
        return judged

    def _by_rules(self, tag: Tag) -> Judged:
        if tag.belongs_here is not None:
            return self._judge_attached(tag)
        about = [number for number, means in enumerate(self._matchers) if means(tag.name)]
        if has_failed(self._policy, tag):
            about_all = [number for number in about if self._policy.keep[number].keeps_all]
            if about_all:
                return self._kept(about_all[0])
            days = self._policy.failed_days
            return Judged(goes=True, why=f"its image has been at {tag.state} for more than {days} days")
        if not self._policy.keep:
            return Judged(goes=False, why="no rule is about tags")
        for number in about:
            if self._keeps(number, tag):
                return self._kept(number)
        if not about:
            return Judged(goes=True, why="no rule is about its name")
        said = "; ".join(f"rule {number + 1}, {self._policy.keep[number].shown}" for number in about)
        return Judged(goes=True, why=f"no rule keeps it ({said})"[:500])

    def _judge_attached(self, tag: Tag) -> Judged:
        if tag.belongs_here:
            return Judged(goes=False, why="it is attached to an image that is there")
        days = self._policy.untagged_days
        if days is None or tag.moved_days <= days:
            return Judged(goes=False, why="it is attached to what is not there, and not for long enough")
        return Judged(goes=True, why=f"what it is attached to is gone, and it is older than {days} days")

    def _keeps(self, number: int, tag: Tag) -> bool:
        rule = self._policy.keep[number]
        return (
            rule.keeps_all
            or tag.name in self._newest.get(number, ())
            or (rule.moved_days is not None and tag.moved_days <= rule.moved_days)
            or (
                rule.pulled_days is not None
                and tag.pulled_days is not None
                and tag.pulled_days <= rule.pulled_days
            )
        )

    def _kept(self, number: int) -> Judged:
        return Judged(goes=False, why=f"rule {number + 1} keeps it ({self._policy.keep[number].shown})")


def matchers_of(policy: RetentionPolicy) -> Sequence[Callable[[str], bool]]:
    """For each rule, which names it is about."""
    return [
        (lambda _name: True) if rule.tags == ALL else parse_matcher(rule.tags.by, rule.tags.pattern)
        for rule in policy.keep
    ]


def has_failed(policy: RetentionPolicy, tag: Tag) -> bool:
    """Whether its image failed so long ago that it does not count any more."""
    days = policy.failed_days
    return days is not None and tag.state in FAILED and tag.state_days > days


class Newest:
    """Picks the last tags that a rule keeps, of tags that come in its order."""

    def __init__(self, policy: RetentionPolicy, number: int) -> None:
        self._policy = policy
        self._means = matchers_of(policy)[number]
        self._rule = policy.keep[number]
        self._found: set[str] = set()

    @property
    def is_full(self) -> bool:
        """Whether there are as many as it keeps."""
        return len(self._found) >= (self._rule.last or 0)

    @property
    def found(self) -> frozenset[str]:
        """Their names."""
        return frozenset(self._found)

    def offer(self, tag: Tag, version_key: str) -> None:
        """Take it, if it counts: what failed does not, nor what is attached to something; nor, by version,
        what is none."""
        if self.is_full or attached_to(tag.name) is not None or has_failed(self._policy, tag):
            return
        if self._rule.order == "version" and version_key == NO_VERSION:
            return
        if self._means(tag.name):
            self._found.add(tag.name)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tags and manifests a repository has, and how many of them go."""

    tags: int
    manifests: int
    tags_going: int
    manifests_going: int


def fuse(counts: Counts, *, cap: int, cap_percent: int) -> str | None:
    """Why a run must not begin that would delete so much; ``None``: it may."""
    going = counts.tags_going + counts.manifests_going
    if going > cap:
        return (
            f"it would delete {counts.tags_going} tags and {counts.manifests_going} manifests; {cap} "
            "together are the most"
        )
    for what, there, gone in (
        ("tags", counts.tags, counts.tags_going),
        ("manifests", counts.manifests, counts.manifests_going),
    ):
        if gone * 100 > there * cap_percent:
            return f"it would delete {gone} of {there} {what}; {cap_percent} % are the most"
    return None


@dataclass(frozen=True, slots=True)
class Loose:
    """A manifest that no tag names and that may go: which manifests of its repository list it, and which one
    there it refers to."""

    digest: str
    listed_by: frozenset[str]
    subject: str | None


def peel(candidates: Iterable[Loose], gone: frozenset[str] | set[str]) -> list[str]:
    """Those of the candidates that nothing reaches once ``gone`` are gone: nothing else lists them, and what
    they refer to is gone."""
    return [
        one.digest
        for one in candidates
        if one.digest not in gone and one.listed_by <= gone and (one.subject is None or one.subject in gone)
    ]
