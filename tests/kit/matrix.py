"""The access matrix as it is written down by hand: who may do what where, and which right each route needs.

A cell has a sign for each place, in the order of :data:`PLACES`: ``+`` allowed (any answer but 401 and
403), ``?`` 401, ``-`` 403. ``absent`` is a repository that does not exist, in a namespace in which everybody
has the role that he has in the others: whoever may not pull from the private one cannot tell it from this.

The routes of a right without a place have one sign.
"""

from __future__ import annotations

PLACES = ("public", "internal", "private", "absent")

_PLACED = """
                  pull  push  trial delete configure administer
anonymous         +???  ????  ????  ????   ????      ????
stranger          ++--  ----  ----  ----   ----      ----
reader            ++++  ----  ----  ----   ----      ----
writer            ++++  ++++  ++++  ----   ----      ----
maintainer        ++++  ++++  ++++  ++++   ++++      ----
owner             ++++  ++++  ++++  ++++   ++++      ++++
auditor           ++++  ----  ----  ----   ----      ----
administrator     ++++  ++++  ++++  ++++   ++++      ++++
robot             ++++  ++++  ++++  ----   ----      ----
pull-token        ++++  ----  ----  ----   ----      ----
elsewhere-token   ----  ----  ----  ----   ----      ----
expired-token     ????  ????  ????  ????   ????      ????
revoked-token     ????  ????  ????  ????   ????      ????
narrow-token      ????  ????  ????  ????   ????      ????
empty-token       ????  ????  ????  ????   ????      ????
worker            ????  ????  ????  ????   ????      ????
"""
"""``robot`` is a writer. The tokens are the owner's: for pull everywhere, for all in another namespace,
expired, revoked; and registry tokens: for all in another namespace, and for nothing."""

_GENERAL = """
                  open base catalog token worker any user admin audit
anonymous         +    ?    ?       +     ?      +   ?    ?     ?
stranger          +    +    +       +     ?      +   +    -     -
reader            +    +    +       +     ?      +   +    -     -
writer            +    +    +       +     ?      +   +    -     -
maintainer        +    +    +       +     ?      +   +    -     -
owner             +    +    +       +     ?      +   +    -     -
auditor           +    +    +       +     ?      +   +    -     +
administrator     +    +    +       +     ?      +   +    +     +
robot             +    +    +       +     ?      +   -    -     -
pull-token        +    +    +       +     ?      +   +    -     -
elsewhere-token   +    +    +       +     ?      +   +    -     -
expired-token     +    ?    ?       ?     ?      ?   ?    ?     ?
revoked-token     +    ?    ?       ?     ?      ?   ?    ?     ?
narrow-token      +    +    ?       ?     ?      +   +    -     -
empty-token       +    +    ?       ?     ?      +   ?    ?     ?
worker            +    ?    ?       ?     +      ?   ?    ?     ?
"""


def _cells(text: str) -> dict[str, dict[str, str]]:
    """Right, actor, cell."""
    (first, *rows) = (line.split() for line in text.splitlines() if line.strip())
    return {right: {row[0]: row[number + 1] for row in rows} for number, right in enumerate(first)}


PLACED = _cells(_PLACED)
GENERAL = _cells(_GENERAL)
ACTORS = tuple(PLACED["pull"])

V2 = {
    "GET base": "base",
    "HEAD base": "base",
    "GET catalog": "catalog",
    "HEAD catalog": "catalog",
    "GET tags": "pull",
    "HEAD tags": "pull",
    "GET referrers": "pull",
    "HEAD referrers": "pull",
    "GET manifests": "pull",
    "HEAD manifests": "pull",
    "PUT manifests": "push",
    "DELETE manifests": "delete",
    "GET blobs": "pull",
    "HEAD blobs": "pull",
    "DELETE blobs": "delete",
    "POST uploads": "push",
    "GET upload": "push",
    "HEAD upload": "push",
    "PATCH upload": "push",
    "PUT upload": "push",
    "DELETE upload": "push",
}
