"""What there is in the model's two repositories, as it is pushed, tagged and deleted, as it grows older, and
as retention and collections take it away. Pure.

Days are whole ones, and count no further than anybody asks for them: so few states differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tests.kit.modelcontents import BLOBS, EMPTY, Contents

MOVED_DAYS, UNTAGGED_DAYS = 2, 3
KEPT_TAG = "c"
POLICY = {
    "keep": [{"tags": {"by": "glob", "pattern": KEPT_TAG}}, {"moved_days": MOVED_DAYS}],
    "untagged_days": UNTAGGED_DAYS,
    "cap_percent": 100,
}
"""What a repository keeps where retention is asked for. The grace of collections is a day, as it is by
default."""
DAMAGEABLE = tuple(blob for blob in BLOBS if blob != EMPTY)
"""Every play has the empty blob, and would be damaged with one."""
K = TypeVar("K")
V = TypeVar("V")
Pairs = frozenset[tuple[K, V]]
"""A mapping that is a value."""
Went = tuple[str, str]
"""What a retention run has deleted: a tag and what it stood at, or no tag and the manifest itself."""


def put(pairs: Pairs[K, V], key: K, value: V) -> Pairs[K, V]:
    """They, with this one."""
    return frozenset({**dict(pairs), key: value}.items())


def without(pairs: Pairs[K, V], key: K) -> Pairs[K, V]:
    """They, without this one."""
    return frozenset(pair for pair in pairs if pair[0] != key)


@dataclass(frozen=True, slots=True)
class Link:
    """A blob in a repository: for how many days nothing has named it, and whether a collection has condemned
    it. One that something names is as new."""

    days: int = 0
    condemned: bool = False


@dataclass(frozen=True, slots=True)
class Tag:
    """What a tag stands at, and for how many days."""

    key: str
    days: int = 0


@dataclass(frozen=True, slots=True)
class Gone:
    """How many days ago a manifest was deleted, and whether the registry did it by itself."""

    days: int = 0
    by_policy: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """What can be seen of a repository; ``about`` are those manifests that have a subject, by subject and
    then oldest first."""

    visibility: str | None = None
    blobs: frozenset[int] = frozenset()
    manifests: frozenset[str] = frozenset()
    about: tuple[str, ...] = ()
    tags: Pairs[str, str] = frozenset()


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository; ``visibility`` is ``None`` while there is none.

    ``pushed`` are the manifests that are there, and for how many days nobody has pushed them again; ``left``,
    how long ago a tag last left each; ``was``, what tags stood at that are deleted; ``most_tags``, the quota
    of tags; ``run``, what the last retention run has deleted and nobody has brought back yet, ``None`` if
    there was no run.
    """

    visibility: str | None = None
    links: Pairs[int, Link] = frozenset()
    pushed: Pairs[str, int] = frozenset()
    about: tuple[str, ...] = ()
    tags: Pairs[str, Tag] = frozenset()
    left: Pairs[str, int] = frozenset()
    gone: Pairs[str, Gone] = frozenset()
    was: Pairs[str, str] = frozenset()
    most_tags: int | None = None
    run: tuple[Went, ...] | None = None

    @property
    def manifests(self) -> frozenset[str]:
        """Those that are there."""
        return frozenset(key for key, _ in self.pushed)

    @property
    def blobs(self) -> frozenset[int]:
        """Those that are linked, damaged or not."""
        return frozenset(blob for blob, _ in self.links)

    def tagged(self, tag: str) -> str | None:
        """Where the tag stands."""
        found = dict(self.tags).get(tag)
        return found.key if found else None

    def shown(self, damaged: frozenset[int]) -> Shown:
        """What can be seen of it while these blobs are damaged."""
        tags = frozenset((name, tag.key) for name, tag in self.tags)
        return Shown(self.visibility, self.blobs - damaged, self.manifests, self.about, tags)

    def made(self) -> Repo:
        """It, once something was pushed to it."""
        return replace(self, visibility=self.visibility or "private")

    def named(self, contents: Contents) -> frozenset[int]:
        """The blobs that a manifest of it names."""
        return frozenset(blob for key in self.manifests for blob in contents.items[key].blobs)

    def normal(self, contents: Contents) -> Repo:
        """It, with no more to say of a link that something names: its grace begins when nothing does."""
        named = self.named(contents)
        links = frozenset((blob, Link() if blob in named else link) for blob, link in self.links)
        return replace(self, links=links)

    def linked(self, blob: int) -> Repo:
        """With the blob, or asked for again: it is condemned no more."""
        link = dict(self.links).get(blob)
        return self if link and not link.condemned else replace(self, links=put(self.links, blob, Link()))

    def unlinked(self, blob: int) -> Repo:
        """Without the blob."""
        return replace(self, links=without(self.links, blob))

    def moved(self, tag: str, key: str) -> Repo:
        """With the tag at this manifest."""
        if self.tagged(tag) == key:
            return self
        freed = self.dropped(tag)
        return replace(freed, tags=put(freed.tags, tag, Tag(key)))

    def has_room_for(self, after: Repo) -> bool:
        """Whether its quota lets it become so. One that is set below what there is refuses only more."""
        return self.most_tags is None or len(after.tags) <= max(len(self.tags), self.most_tags)

    def dropped(self, tag: str) -> Repo:
        """Without the tag."""
        key = self.tagged(tag)
        if key is None:
            return self
        tags, left = without(self.tags, tag), put(self.left, key, 0)
        return replace(self, tags=tags, left=left, was=put(self.was, tag, key))

    def arrived(self, key: str, contents: Contents) -> Repo:
        """With the manifest, pushed anew if it is there."""
        about, items = self.about, contents.items
        if items[key].subject and key not in about:
            about = tuple(sorted((*about, key), key=lambda one: items[one].subject or ""))
        return replace(
            self, pushed=put(self.pushed, key, 0), gone=without(self.gone, key), about=about
        ).normal(contents)

    def taken(self, key: str, contents: Contents, *, by_policy: bool = False) -> Repo:
        """Without the manifest and its tags; the grace of what it named begins."""
        repo = self
        for tag, stands in self.tags:
            repo = repo.dropped(tag) if stands.key == key else repo
        made_of = contents.items[key].blobs
        return replace(
            repo,
            pushed=without(repo.pushed, key),
            about=tuple(one for one in repo.about if one != key),
            gone=put(repo.gone, key, Gone(0, by_policy)),
            links=frozenset((blob, Link() if blob in made_of else link) for blob, link in repo.links),
        )

    def misses(self, key: str, damaged: frozenset[int], contents: Contents) -> bool:
        """Whether it would not take the manifest: a blob is not there, or what an index lists was deleted by
        the registry itself. Else an index may come before what it lists."""
        item, gone = contents.items[key], dict(self.gone)
        lost = [one for one in item.lists if one not in self.manifests and one in gone]
        return not (self.blobs - damaged).issuperset(item.blobs) or any(gone[one].by_policy for one in lost)

    def brought_back(self, key: str, damaged: frozenset[int], contents: Contents) -> Repo | int:
        """With the manifest, which may have been deleted within the grace; or the status why it is not."""
        if key in self.manifests:
            return self
        gone = dict(self.gone).get(key)
        if gone is None or gone.days >= 1:
            return 409
        return 400 if self.misses(key, damaged, contents) else self.arrived(key, contents)

    def older(self, days: int) -> Repo:
        """As it is so many days later."""

        def grown(pairs: Pairs[K, int], most: int) -> Pairs[K, int]:
            return frozenset((key, min(then + days, most)) for key, then in pairs)

        return replace(
            self,
            links=frozenset(
                (blob, replace(link, days=min(link.days + days, 1))) for blob, link in self.links
            ),
            pushed=grown(self.pushed, UNTAGGED_DAYS),
            tags=frozenset(
                (name, replace(tag, days=min(tag.days + days, MOVED_DAYS))) for name, tag in self.tags
            ),
            left=grown(self.left, UNTAGGED_DAYS),
            gone=frozenset((key, replace(one, days=min(one.days + days, 1))) for key, one in self.gone),
        )

    def collected(self, contents: Contents) -> Repo:
        """After a collection: what nothing has named for half of the grace is condemned, what was condemned
        for the other half is gone."""
        links = dict(self.links)
        for blob, link in self.links:
            if link.days and blob not in self.named(contents):
                del links[blob]
                if not link.condemned:
                    links[blob] = Link(condemned=True)
        return replace(self, links=frozenset(links.items()))

    def swept(self) -> Repo:
        """As the registry has forgotten what can come back no more."""
        return replace(self, gone=frozenset((key, one) for key, one in self.gone if not one.days))

    def asked_for_all(self, damaged: frozenset[int]) -> Repo:
        """As somebody has asked for all its blobs: nobody asks in vain for what is condemned."""
        return replace(
            self,
            links=frozenset(
                (blob, Link() if link.condemned and blob not in damaged else link)
                for blob, link in self.links
            ),
        )

    def tag_goes(self, tag: str) -> bool:
        """Whether no rule of the policy keeps the tag."""
        found = dict(self.tags).get(tag)
        return found is not None and found.days >= MOVED_DAYS and tag != KEPT_TAG

    def is_loose(self, key: str, contents: Contents) -> bool:
        """Whether nothing reaches the manifest any more, nor has for as long as the policy says."""
        there = dict(self.pushed)
        return (
            there.get(key, 0) >= UNTAGGED_DAYS
            and dict(self.left).get(key, UNTAGGED_DAYS) >= UNTAGGED_DAYS
            and key not in {tag.key for _, tag in self.tags}
            and not any(key in contents.items[one].lists for one in there)
            and contents.items[key].subject not in there
        )

    def lost(self, went: Went, contents: Contents) -> Repo | None:
        """Without what a retention run deletes next; ``None``: it must not go now."""
        tag, key = went
        if tag:
            return self.dropped(tag) if self.tag_goes(tag) and self.tagged(tag) == key else None
        return self.taken(key, contents, by_policy=True) if self.is_loose(key, contents) else None

    def retained(self, contents: Contents) -> Repo:
        """After a retention run, whose ``run`` it has: tags first, by name, and then manifests, those that
        nothing reaches before those that only they reached."""
        standing = sorted(self.tags, key=lambda pair: pair[0])
        went: list[Went] = [(tag, stands.key) for tag, stands in standing if self.tag_goes(tag)]
        repo = self
        for tag, _ in went:
            repo = repo.dropped(tag)
        while fresh := [key for key in repo.manifests if repo.is_loose(key, contents)]:
            for key in sorted(fresh, key=lambda key: contents.items[key].digest):
                repo = repo.taken(key, contents, by_policy=True)
                went.append(("", key))
        return replace(repo, run=tuple(went))

    def undone(self, damaged: frozenset[int], contents: Contents) -> Sequence[Undoing]:
        """After each step of bringing back what the last run has deleted: the last manifest first, then the
        last tag. It ends where there is no room in the quota."""
        steps = [Undoing(self, 0)]
        for went in _manifests_first(self.run or ()):
            repo, restored = steps[-1].repo, steps[-1].restored
            after = repo._restored(went, damaged, contents)
            if after is not None and not repo.has_room_for(after):
                steps.append(Undoing(repo, restored, refused=True))
                break
            left = tuple(one for one in repo.run or () if one != went)
            steps.append(Undoing(replace(after or repo, run=left), restored + (after is not None)))
        return steps

    def _restored(self, went: Went, damaged: frozenset[int], contents: Contents) -> Repo | None:
        tag, key = went
        if tag and self.tagged(tag) == key:
            return self
        if tag and self.tagged(tag):
            return None  # it was made anew since
        after = self.brought_back(key, damaged, contents)
        if isinstance(after, int):
            return None
        return after.moved(tag, key) if tag else after

    def reached(self, contents: Contents) -> frozenset[str]:
        """The manifests that a tag reaches."""
        found = {tag.key for _, tag in self.tags}
        while True:
            more = {one for key in found for one in contents.items[key].lists}
            more |= {key for key in self.manifests if contents.items[key].subject in found}
            if more & self.manifests <= found:
                return frozenset(found)
            found |= more & self.manifests


@dataclass(frozen=True, slots=True)
class Undoing:
    """A repository while a run is undone, and how much has come back so far."""

    repo: Repo
    restored: int
    refused: bool = False


def _manifests_first(run: tuple[Went, ...]) -> list[Went]:
    latest = run[::-1]
    return [*(went for went in latest if not went[0]), *(went for went in latest if went[0])]


@dataclass(frozen=True, slots=True)
class Session:
    """An upload session: where it was opened, and how many bytes it has."""

    repo: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class AllShown:
    """All that can be seen of both repositories, and of the slots that hold upload sessions."""

    repos: tuple[Shown, Shown] = (Shown(), Shown())
    sessions: tuple[Session | None, Session | None] = (None, None)


@dataclass(frozen=True, slots=True)
class State:
    """Both repositories, the slots that hold upload sessions, and the blobs whose bytes are damaged."""

    repos: tuple[Repo, Repo] = (Repo(), Repo())
    sessions: tuple[Session | None, Session | None] = (None, None)
    damaged: frozenset[int] = frozenset()

    @property
    def shown(self) -> AllShown:
        """What can be seen of it."""
        one, two = (repo.shown(self.damaged) for repo in self.repos)
        return AllShown((one, two), self.sessions)

    def looked_at(self) -> State:
        """It, after somebody has looked at all that can be seen."""
        one, two = (repo.asked_for_all(self.damaged) for repo in self.repos)
        return replace(self, repos=(one, two))

    def visible(self, repo: int) -> frozenset[int]:
        """The blobs that can be seen in a repository."""
        return self.repos[repo].blobs - self.damaged

    def with_repo(self, number: int, repo: Repo) -> State:
        """The state with this repository changed."""
        repos = (repo, self.repos[1]) if number == 0 else (self.repos[0], repo)
        return replace(self, repos=repos)

    def with_session(self, slot: int, session: Session | None) -> State:
        """The state with this slot changed."""
        sessions = (session, self.sessions[1]) if slot == 0 else (self.sessions[0], session)
        return replace(self, sessions=sessions)
