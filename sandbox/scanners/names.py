"""The names of files in an image whose folders may be symbolic links. Pure.

A layer may write to ``lib/x`` where a layer below made ``lib`` a link to ``usr/lib``, as a chroot would
follow it. A *name* is a path as a layer has it; the *place* is where that leads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice

_FOLLOWED_MAX = 40
_NAMES_MAX = 64
_MORE_NAMES_MAX = 500_000
"""Names through links that are given for all places, between two changes."""
_DEPTH_MAX = 512
COST_MAX = 1_000_000_000
"""Of following all names of an image: some 15 s. Who makes images chooses where links lead."""


class Names:
    """The symbolic links of an image, by place, and what follows from them."""

    def __init__(self, *, most: int = COST_MAX) -> None:
        """``most`` is what following names may cost, in all."""
        self._links: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._ends: dict[str, str] = {}
        self._by_end: dict[str, dict[str, None]] = {}
        self._folder_names: dict[str, tuple[str, ...]] = {}
        self._more_left = _MORE_NAMES_MAX
        self._cost_left = most
        self._lacks_names = False

    @property
    def links(self) -> Mapping[str, str]:
        """Where each link leads, as it is written."""
        return self._links

    @property
    def spent(self) -> bool:
        """Whether there were more links and names than are followed, so that some led nowhere."""
        return self._lacks_names or self._cost_left < 0

    def change(self, *, gone: list[str], made: Mapping[str, str]) -> None:
        """Forget some links (by place), then add those of one layer (by name)."""
        for place in gone:
            self._links.pop(place, None)
            if (end := self._ends.pop(place, None)) is not None:
                self._by_end[end].pop(place, None)
        self._folders.clear()
        new = []
        for name, target in made.items():
            place = self.place(name)
            self._links[place] = target
            new.append(place)
        self._folders.clear()
        self._folder_names.clear()
        self._more_left = _MORE_NAMES_MAX
        for place in new:
            end = self.followed(place)
            if end is not None and end != place and place not in self._ends:
                self._ends[place] = end
                self._by_end.setdefault(end, {})[place] = None

    def place(self, name: str) -> str:
        """Where a name leads; a link at its own end is not followed."""
        folder, slash, last = name.rpartition("/")
        if not slash:
            return name
        found = self._folders.get(folder)
        if found is None:
            found = self.followed(folder)
            found = folder if found is None else found
            self._folders[folder] = found
        return f"{found}/{last}" if found else last

    def followed(self, name: str) -> str | None:
        """Where a name leads with all links followed; None: in a circle, or too far."""
        parts = deque(name.split("/"))
        here: list[str] = []
        followed = 0
        while parts:
            part = parts.popleft()
            self._cost_left -= 8 + len(here)
            if self._cost_left < 0 or len(here) > _DEPTH_MAX:
                return None
            if part in ("", "."):
                continue
            if part == "..":
                del here[-1:]
                continue
            here.append(part)
            target = self._links.get("/".join(here))
            if target is None:
                continue
            followed += 1
            if followed > _FOLLOWED_MAX:
                return None
            here = [] if target.startswith("/") else here[:-1]
            parts.extendleft(reversed(target.split("/")))
        return "/".join(here)

    def names(self, place: str) -> list[str]:
        """The names that lead to a place: its own first, then those through links."""
        folder, _, last = place.rpartition("/")
        if self._more_left <= 0:
            self._lacks_names = True
            return [place]
        some = self._folder_names.get(folder)
        if some is None:
            some = (folder, *islice(self._through(folder), _NAMES_MAX))
            self._folder_names[folder] = some
        self._more_left -= len(some) - 1
        return [f"{one}/{last}" if one else last for one in some]

    def _through(self, folder: str) -> Iterator[str]:
        """The names of a folder that go through a link to it, or to one above it."""
        at, rest = folder, ""
        while True:
            for link in self._by_end.get(at, ()):
                yield f"{link}/{rest}" if rest else link
            if not at:
                return
            at, _, name = at.rpartition("/")
            rest = f"{name}/{rest}" if rest else name
