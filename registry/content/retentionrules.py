"""What a repository keeps and what goes, as a policy says it: pure.

Nothing goes that a tag rule protects, a request for a promotion names, or a rule of the policy keeps. Where
something is not known, it stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from registry.content.tagmatching import TagPattern, parse_matcher
from registry.errors import RequestInvalidError
from registry.oci.versions import NO_VERSION, parse_key_range

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
    def asks_for_versions(self) -> bool:
        """Whether the rules look at the order of versions."""
        return any(rule.order == "version" or rule.tags.by == "semver" for rule in self.keep)

    @property
    def pulls_days(self) -> int | None:
        """How far back the rules look at pulls; ``None``: they do not."""
        return max((rule.pulled_days for rule in self.keep if rule.pulled_days is not None), default=None)

    @property
    def known_days(self) -> int | None:
        """For how many days pulls have to be known whole; ``None``: for none. What no tag names, and what
        refers to something, goes only if nobody pulled it, too."""
        asked = (self.pulls_days, self.untagged_days, self.referrers_days)
        days = [each for each in asked if each is not None]
        return max(days, default=None)


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
    if (policy.known_days or 0) > pulls_kept_days:
        raise RequestInvalidError(
            f"pulls of {policy.known_days} days are asked for; they are kept for {pulls_kept_days} "
            "(SEATRIAL_AUDIT_KEEP_DAYS)"
        )


class Tag(NamedTuple):
    """What is known of a tag: its place in the order of versions, how old its last move and its image's state
    are, and how long ago somebody pulled it (days; ``None``: nobody has, or nobody asks)."""

    name: str
    version_key: str
    moved_days: float
    state: str
    state_days: float
    pulled_days: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether a tag or a manifest goes, and why, or why not."""

    goes: bool
    why: str


def attached_to(tag: str) -> str | None:
    """The digest of what a tag is attached to by its name, as cosign's signatures are (``sha256-….sig``);
    ``None``: it is a tag as others."""
    found = _ATTACHED.fullmatch(tag) if tag.startswith("sha") else None
    if found is None or len(found[2]) != (64 if found[1] == "sha256" else 128):
        return None
    return f"{found[1]}:{found[2]}"


class TagJudge:
    """Says of tags whether they go. ``protection`` is by which tag rule a tag stands for good, if by one;
    ``promoted`` are those that somebody has asked to promote; ``newest``, for each rule of the policy, those
    that it keeps as the last ones."""

    def __init__(
        self,
        policy: RetentionPolicy,
        *,
        protection: Callable[[str], str | None],
        promoted: Collection[str],
        newest: Mapping[int, frozenset[str]],
    ) -> None:
        self._policy = policy
        self._protection = protection
        self._promoted = promoted
        self._means = matchers_of(policy)
        self._grounds = [
            (rule.keeps_all, rule.moved_days, rule.pulled_days, newest.get(number, frozenset()), means)
            for number, (rule, means) in enumerate(zip(policy.keep, self._means, strict=True))
        ]

    def judge(self, tag: Tag, *, is_attached_here: bool | None = None) -> bool:
        """Whether the tag goes. ``is_attached_here``: of one that says by its name what it is attached to,
        whether that is there."""
        if is_attached_here is not None:
            goes = not is_attached_here and self._is_old_attachment(tag)
        else:
            goes = self._kept_by(tag) is None and (bool(self._grounds) or has_failed(self._policy, tag))
        # Last, as few tags come so far.
        return goes and tag.name not in self._promoted and self._protection(tag.name) is None

    def explain(self, tag: Tag, *, is_attached_here: bool | None = None) -> Judged:
        """As :meth:`judge`, with the reason; there are many tags, and few of them are shown."""
        goes = self.judge(tag, is_attached_here=is_attached_here)
        return Judged(goes, self._why(tag, is_attached_here, goes=goes))

    def _kept_by(self, tag: Tag) -> int | None:
        """The number of the first rule that keeps it."""
        failed = has_failed(self._policy, tag)
        for number, (keeps_all, moved_days, pulled_days, newest, means) in enumerate(self._grounds):
            # The pattern last: it takes the longest.
            if (
                keeps_all
                or (
                    not failed
                    and (
                        (moved_days is not None and tag.moved_days <= moved_days)
                        or tag.name in newest
                        or (
                            pulled_days is not None
                            and tag.pulled_days is not None
                            and tag.pulled_days <= pulled_days
                        )
                    )
                )
            ) and means(tag):
                return number
        return None

    def _is_old_attachment(self, tag: Tag) -> bool:
        days = self._policy.untagged_days
        return days is not None and tag.moved_days > days

    def _why(self, tag: Tag, is_attached_here: bool | None, *, goes: bool) -> str:
        if is_attached_here is not None:
            if is_attached_here:
                return "it is attached to an image that is there"
            if not self._is_old_attachment(tag):
                return "it is attached to what is not there, and not for long enough"
        elif (number := self._kept_by(tag)) is not None:
            return f"rule {number + 1} keeps it ({self._policy.keep[number].shown})"
        elif not self._grounds and not has_failed(self._policy, tag):
            return "no rule is about tags"
        if not goes:
            if tag.name in self._promoted:
                return "somebody has asked for a promotion of it"
            return f"it is immutable by {self._protection(tag.name)}"
        if is_attached_here is not None:
            days = self._policy.untagged_days
            return f"what it is attached to is gone, and it is older than {days} days"
        if has_failed(self._policy, tag):
            return f"its image has been at {tag.state} for more than {self._policy.failed_days} days"
        return self._unkept(tag)

    def _unkept(self, tag: Tag) -> str:
        about = [number for number, means in enumerate(self._means) if means(tag)]
        if not about:
            return "no rule is about its name"
        said = "; ".join(f"rule {number + 1}, {self._policy.keep[number].shown}" for number in about)
        return f"no rule keeps it ({said})"[:500]


def matchers_of(policy: RetentionPolicy) -> Sequence[Callable[[Tag], bool]]:
    """For each rule, which tags it is about."""
    return [_matcher(rule.tags) for rule in policy.keep]


def _matcher(tags: TagPattern) -> Callable[[Tag], bool]:
    if tags == ALL:
        return lambda _tag: True
    if tags.by == "semver":
        holds = parse_key_range(tags.pattern)
        return lambda tag: holds(tag.version_key)
    means = parse_matcher(tags.by, tags.pattern)
    return lambda tag: means(tag.name)


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

    def offer(self, tag: Tag) -> None:
        """Take it, if it counts: what failed does not, nor what is attached to something; nor, by version,
        what is none."""
        if self.is_full or attached_to(tag.name) is not None or has_failed(self._policy, tag):
            return
        if self._rule.order == "version" and tag.version_key == NO_VERSION:
            return
        if self._means(tag):
            self._found.add(tag.name)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tags and manifests a repository has, and how many of them go now. ``manifests_loose`` may go,
    now or with later runs, where that is more."""

    tags: int
    manifests: int
    tags_going: int
    manifests_going: int
    manifests_loose: int = 0


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
        # A share is one of all that there is, whatever number of runs it takes.
        ("manifests", counts.manifests, max(counts.manifests_going, counts.manifests_loose)),
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
