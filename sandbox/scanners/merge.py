"""An image's view from what its layers say (image-spec, layer.md, "Whiteouts"). Pure.

A file's facts count while no layer above has removed or replaced it. Of what was removed, secrets and malware
stay: whoever has the image has its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

from sandbox.scanners.aliases import PLACES, aliases_of, by_all_names, fit, is_wanted
from sandbox.scanners.facts import Alias, FoundPackage, FoundSystem, FoundThing, Module
from sandbox.scanners.lines import each_digest, path_digest
from sandbox.scanners.names import Names
from sandbox.scanners.reading import read_packages, read_system, read_things

LASTING_KINDS = ("secret", "malware")
LINKS_MAX = 200_000
FACTS_MAX = 120_000
GAPS_MAX = 2_000
"""Of all layers together: each layer has its own limits, but an image has many layers."""
AT_PLACE_MAX = 50
"""Things that hard links may add to one name; each module tells one of each file."""


class LayerFacts(Protocol):
    """What one layer says, as :class:`sandbox.scanners.lines.LineFile` has it."""

    def records(self) -> Iterable[Mapping[str, object]]: ...

    def owned(self) -> Iterable[tuple[str, str, str, str]]: ...

    def digests(self) -> tuple[bytes, bytes]: ...


@dataclass(frozen=True, slots=True)
class Told:
    """What one module tells of one file, which is at ``path`` and came with ``layer``."""

    path: str
    layer: int
    module: str
    packages: tuple[FoundPackage, ...] = ()
    system: FoundSystem | None = None
    things: tuple[FoundThing, ...] = ()
    deleted_in_layer: int | None = None
    name: str = ""
    """by which the module looked for it, where that leads to ``path`` through a link"""
    since: Mapping[FoundPackage, int] = field(default_factory=dict)
    """of packages that the same file of a lower layer told of already: which layer brought them. A database
    is written anew with each package that is added."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What could not be looked at."""

    module: str
    path: str
    reason: str
    layer: int | None


@dataclass(frozen=True, slots=True)
class Owner:
    """The distribution's package that brought a file: what it states of it, and the layer that says so."""

    package: str
    digest: str
    layer: int


@dataclass(slots=True)
class View:
    """The image's view. ``owned``: whose the files that matter are, by path. ``aliases``: what is to be read
    under another name yet, and counts when it was."""

    told: list[Told] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    owned: dict[str, Owner] = field(default_factory=dict)
    aliases: tuple[Alias, ...] = ()


def merge(
    layers: Sequence[LayerFacts],
    modules: Sequence[Module],
    *,
    read: Sequence[Alias] = (),
    is_late: Callable[[], bool] = lambda: False,
) -> View:
    """What the layers (base first) come to; ``modules`` are those that looked, under other names too where
    ``read`` says so. Once ``is_late``, the layers that are left are a gap."""
    merging = _Merging()
    for number, layer in enumerate(layers):
        if is_late():
            merging.lack("there was no time left to put its layers together", number)
            layers = layers[:number]
            break
        merging.add(number, layer)
    if merging.names.spent:
        merging.lack("its links lead to more folders, or further, than is followed", None)
    view = View(gaps=[*merging.lacks, *merging.gaps])
    for some in merging.visible.values():
        view.told.extend(some)
    view.told.extend(merging.removed)
    _follow(view, merging, modules, read)
    view.owned = _owned(merging, layers)
    return view


@dataclass(slots=True)
class _Changes:
    """What one layer does to those below it."""

    gone: set[str]
    opaque: set[str]
    here: set[bytes]
    """digests of its names that are of something below, or of a folder of that"""
    others: set[bytes]
    """those of them that are no folders"""


class _Merging:
    def __init__(self) -> None:
        self.names = Names()
        self.visible: dict[str, list[Told]] = {}
        self.removed: list[Told] = []
        self.gaps: list[Gap] = []
        self.lacks: list[Gap] = []
        self._links_left, self._packages_left, self._others_left = LINKS_MAX, FACTS_MAX, FACTS_MAX
        self.asked_links: dict[str, tuple[tuple[str, ...], int]] = {}
        self._marks: dict[str, tuple[bytes, ...]] = {}

    def lack(self, reason: str, number: int | None) -> None:
        """Say, once, what the image has too much of, from this layer on."""
        if all(one.reason != reason for one in self.lacks):
            self.lacks.append(Gap("", "", reason, number))

    def _gap(self, gap: Gap) -> None:
        if len(self.gaps) < GAPS_MAX:
            self.gaps.append(gap)

    def _takes_link(self, number: int) -> bool:
        self._links_left -= 1
        if self._links_left < 0:
            self.lack(f"its layers have more than {LINKS_MAX} links; further ones are not followed", number)
        return self._links_left >= 0

    def _takes(self, some: Sequence[Told], number: int) -> bool:
        """Whether there is room for so many facts. Packages and all else do not take each other's."""
        packages = sum(1 + len(one.packages) for one in some if one.packages)
        others = sum(1 + len(one.things) for one in some if one.things or not one.packages)
        self._packages_left -= packages
        self._others_left -= others
        has_room = not (packages and self._packages_left < 0) and not (others and self._others_left < 0)
        if not has_room:
            self.lack(f"its layers tell more than {FACTS_MAX} facts of one sort", number)
        return has_room

    def add(self, number: int, layer: LayerFacts) -> None:
        """Lay one layer above the others."""
        gone: set[str] = set()
        opaque: set[str] = set()
        links: dict[str, str] = {}
        hard: list[tuple[str, str]] = []
        asked: dict[str, tuple[str, ...]] = {}
        told: dict[str, list[Told]] = {}
        for record in layer.records():
            match record:
                case {"gone": str(path)}:
                    gone.add(self.names.place(path))
                case {"opaque": str(path)}:
                    opaque.add(self.names.followed(path) or path)
                case {"link": str(path), "to": str(target)} if self._takes_link(number):
                    links[path] = target
                    if wanted := _strings(record.get("wanted")):
                        asked[path] = wanted
                case {"hard": str(path), "to": str(target)} if self._takes_link(number):
                    hard.append((path, target))
                case {"replaced": str(path)}:
                    self._remove(told.pop(path, ()), number)
                case {"file": str(path), "module": str(module)}:
                    self._tell(told, self._told(record, path, module, number))
                case {"incomplete": str(reason), "module": str(module), "path": str(path)}:
                    self._gap(Gap(module, path, reason, number))
        hidden = self._hide(number, self._changes(layer, gone, opaque))
        self._relink([], links)
        for path, wanted in asked.items():
            self.asked_links[self.names.place(path)] = (wanted, number)
        for path, some in told.items():
            place = self.names.place(path)
            known = _brought(hidden.get(place, ()))
            self.visible.setdefault(place, []).extend(
                replace(one, path=place, since={at: known[at] for at in one.packages if at in known})
                for one in some
            )
        for path, target in hard:
            self._link(self.names.place(path), self.names.place(target), number)

    def _tell(self, told: dict[str, list[Told]], one: Told) -> None:
        if self._takes((one,), one.layer):
            told.setdefault(one.path, []).append(one)

    def _told(self, record: Mapping[str, object], path: str, module: str, number: int) -> Told:
        reasons = _strings(record.get("incomplete"))
        for reason in reasons:
            self._gap(Gap(module, path, reason, number))
        return Told(
            path=path,
            layer=number,
            module=module,
            name=name if isinstance(name := record.get("as"), str) else "",
            packages=read_packages(record.get("packages")),
            system=read_system(record.get("system")),
            things=read_things(record.get("things")),
        )

    def _link(self, place: str, target: str, number: int) -> None:
        """A hard link is the same file: what is told of the one name holds for the other. Each thing once:
        links may lead to each other."""
        some = self.visible.get(target, ())
        if not some or place == target or not self._takes(some, number):
            return
        known = self.visible.setdefault(place, [])
        for one in some:
            also = replace(one, path=place, layer=number)
            if also in known:
                continue
            if len(known) >= AT_PLACE_MAX:
                self.lack(f"more than {AT_PLACE_MAX} things are told of one name", number)
                return
            known.append(also)

    def _changes(self, layer: LayerFacts, gone: set[str], opaque: set[str]) -> _Changes:
        if not self.visible and not self.names.links:
            return _Changes(gone, opaque, set(), set())
        needed: set[bytes] = set()
        seen: set[str] = set()
        for place in (*self.visible, *self.names.links):
            at = place
            while at and at not in seen:
                seen.add(at)
                needed.update(self._marks_of(at))
                at = at.rpartition("/")[0]
        folders, rest = layer.digests()
        others = needed.intersection(each_digest(rest))
        return _Changes(gone, opaque, others | needed.intersection(each_digest(folders)), others)

    def _hide(self, number: int, changes: _Changes) -> Mapping[str, Sequence[Told]]:
        """What was to be seen, by place, and no longer is."""
        folders: dict[str, bool] = {"": "" in changes.opaque}

        def hidden_in(folder: str) -> bool:
            """Whether what the layers below have in a folder is gone."""
            known = folders.get(folder)
            if known is None:
                known = (
                    folder in changes.opaque
                    or folder in changes.gone
                    or self._among(changes.others, folder)
                    or hidden_in(folder.rpartition("/")[0])
                )
                folders[folder] = known
            return known

        def hidden(place: str) -> bool:
            return (
                place in changes.gone
                or self._among(changes.here, place)
                or hidden_in(place.rpartition("/")[0])
            )

        links = [place for place in self.names.links if hidden(place)]
        for place in links:
            self.asked_links.pop(place, None)
        # First: what the layer has in a folder that took the place of a link is not where that led.
        self._relink(links, {})
        folders = {"": "" in changes.opaque}
        gone = {place: self.visible.pop(place) for place in [*self.visible] if hidden(place)}
        for some in gone.values():
            self._remove(some, number)
        return gone

    def _among(self, digests: set[bytes], place: str) -> bool:
        return not digests.isdisjoint(self._marks_of(place)) if digests else False

    def _marks_of(self, place: str) -> tuple[bytes, ...]:
        """The digests of the names that lead to a place."""
        found = self._marks.get(place)
        if found is None:
            found = self._marks[place] = tuple(map(path_digest, self.names.names(place)))
        return found

    def _relink(self, gone: list[str], made: Mapping[str, str]) -> None:
        if gone or made:
            self.names.change(gone=gone, made=made)
            self._marks.clear()

    def _remove(self, some: Iterable[Told], number: int) -> None:
        for one in some:
            things = tuple(thing for thing in one.things if thing.kind in LASTING_KINDS)
            if things:
                left = replace(one, packages=(), system=None, things=things, deleted_in_layer=number)
                self.removed.append(left)


def _brought(some: Iterable[Told]) -> Mapping[FoundPackage, int]:
    """Which layers brought the packages that are told of."""
    return {
        package: one.since.get(package, one.layer)
        for one in sorted(some, key=lambda one: one.layer, reverse=True)
        for package in one.packages
    }


def _follow(view: View, merging: _Merging, modules: Sequence[Module], read: Sequence[Alias]) -> None:
    """Say which links lead to what was not looked at: what can be read under another name, and gaps."""
    asked = {place: wanted for place, (wanted, _) in merging.asked_links.items()}
    behind = list(aliases_of(merging.names, asked, modules))
    aliases = by_all_names(merging.names, [alias for _, alias, _ in behind])
    followed: set[tuple[str, str]] = set()
    if fit(aliases):
        view.aliases = tuple(one for one in aliases if one not in read)
        followed = {(name, place) for place, _, looking in behind for name in looking}
        if not view.aliases:
            view.gaps.extend(dict.fromkeys(_in_vain(view, merging, behind)))
    else:
        said = "lies behind a link, and there are more such links than are followed"
        view.gaps.extend(Gap(name, place, said, None) for place, _, looking in behind for name in looking)
        followed = {(one.module, one.path) for one in view.gaps}
    unfollowed = (one for one in _unfollowed(merging, modules) if (one.module, one.path) not in followed)
    view.gaps.extend(islice(unfollowed, GAPS_MAX))


def _in_vain(
    view: View, merging: _Merging, behind: Sequence[tuple[str, Alias, tuple[str, ...]]]
) -> Iterable[Gap]:
    """Links in the place of a database that lead to nothing, or to what is none: without any database an
    image looks as if it had no packages."""
    names = merging.names
    for folder in dict.fromkeys(folder for folder, _ in PLACES):
        if names.place(folder) in names.links and names.followed(folder) is None:
            yield Gap("", folder, "is a symbolic link that leads in a circle, or too far", None)
    told = [one.name for one in view.told if one.name]
    for _, alias, looking in behind:
        # Where a folder above is the link nobody says that there is a database.
        if names.place(alias.name) not in names.links:
            continue
        if not any(name == alias.name or name.startswith(f"{alias.name}/") for name in told):
            _, number = merging.asked_links.get(alias.name, ((), None))
            for module in looking:
                yield Gap(module, alias.name, "is a symbolic link to nothing that tells anything", number)


def _unfollowed(merging: _Merging, modules: Sequence[Module]) -> Iterable[Gap]:
    """Links that stand where a module looks, and lead to what it did not look at."""
    by_name = {module.name: module for module in modules}
    for place, (wanted, number) in merging.asked_links.items():
        end = merging.names.followed(place)
        for name in wanted:
            module = by_name.get(name)
            if module is None or (end is not None and is_wanted(module, end)):
                continue
            yield Gap(name, place, "is a symbolic link to what was not looked at under its own name", number)


def _owned(merging: _Merging, layers: Sequence[LayerFacts]) -> dict[str, Owner]:
    """Which package brought the files that are told of, by the databases that are to be seen."""
    asked = {
        path
        for path, some in merging.visible.items()
        if any(one.packages or any(thing.digests for thing in one.things) for one in some)
    }
    sources: dict[int, set[str]] = {}
    for path, some in merging.visible.items():
        for one in some:
            sources.setdefault(one.layer, set()).add(path)
    place: Callable[[str], str] = merging.names.place
    found: dict[str, Owner] = {}
    for number, layer in enumerate(layers):
        here = sources.get(number)
        if not asked or not here:
            continue
        for source, path, package, digest in layer.owned():
            if place(path) in asked and place(source) in here:
                known = found.get(place(path))
                if known is not None and not digest:
                    # A list names no more than the file.
                    found[place(path)] = replace(known, package=package)
                else:
                    found[place(path)] = Owner(package, digest, number)
    return found


def _strings(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
