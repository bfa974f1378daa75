"""What pages say, in English, each text by its key: the one place to translate.

There is a module for each kind of page. A test holds that templates have no other words, that nothing here is
left over, and that no key is there twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from registry.pages.texts import (
    account,
    acting,
    common,
    deciding,
    image,
    managing,
    people,
    refusing,
    repository,
    seeing,
    service,
    trials,
    trust,
)

PARTS: tuple[Mapping[str, str], ...] = (
    common.TEXTS,
    repository.TEXTS,
    image.TEXTS,
    trials.TEXTS,
    account.TEXTS,
    managing.TEXTS,
    people.TEXTS,
    service.TEXTS,
    deciding.TEXTS,
    seeing.TEXTS,
    trust.TEXTS,
    acting.TEXTS,
    refusing.TEXTS,
)
TEXTS: Mapping[str, str] = MappingProxyType({key: words for part in PARTS for key, words in part.items()})


def text(key: str, **values: object) -> str:
    """The text of that key, with ``values`` filled in."""
    found = TEXTS[key]
    return found.format_map(values) if values else found


def has_text(key: str) -> bool:
    """Whether there is one."""
    return key in TEXTS
