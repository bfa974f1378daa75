"""The access matrix as it is written down by hand: who may do what where.

A cell has a sign for each place, in the order of :data:`PLACES`: ``+`` allowed (any answer but 401 and
403), ``?`` 401, ``-`` 403, ``0`` 404 as if there were none. ``missing`` is what does not exist, in a
namespace in which everybody has the role that he has in the others: whoever may not pull from the private
one cannot tell it from this.

The routes of a right without a place have one sign. Which right each route needs is in
:mod:`tests.kit.matrix`.
"""

from __future__ import annotations

PLACES = ("public", "internal", "private", "missing")

_PLACED = """
                pull push trial delete configure administer members namespace trialled pulls log  put  scans
anonymous       +??? ???? ????  ????   ????      ????       ????    ????      +000     ????  ?000 ???? ????
stranger        ++-- ---- ----  ----   ----      ----       ----    ----      ++00     ----  --00 ---- ----
reader          ++++ ---- ----  ----   ----      ----       ----    ++++      +++0     ----  ---0 ---- ---+
writer          ++++ ++++ ++++  ----   ----      ----       ----    ++++      +++0     ----  +++0 ---- ++++
maintainer      ++++ ++++ ++++  ++++   ++++      ----       ----    ++++      +++0     ++++  +++0 +++- ++++
owner           ++++ ++++ ++++  ++++   ++++      ++++       ++++    ++++      +++0     ++++  +++0 ++++ ++++
auditor         ++++ ---- ----  ----   ----      ----       ++++    ++++      +++0     ++++  +++0 ---- ++++
administrator   ++++ ++++ ++++  ++++   ++++      ++++       ++++    ++++      +++0     ++++  +++0 ++++ ++++
robot           +++- --+- --+-  ----   ----      ----       ----    --+-      +++0     ----  --+0 ---- --+-
pull-token      ++++ ---- ----  ----   ----      ----       ----    ++++      +++0     ----  ---0 ---- ---+
elsewhere-token ---- ---- ----  ----   ----      ----       ----    ----      0000     ----  0000 ---- ----
expired-token   ???? ???? ????  ????   ????      ????       ????    ????      ????     ????  ???? ???? ????
revoked-token   ???? ???? ????  ????   ????      ????       ????    ????      ????     ????  ???? ???? ????
narrow-token    ???? ???? ????  ????   ????      ????       ????    ????      0000     ????  0000 ???? ????
empty-token     ???? ???? ????  ????   ????      ????       ????    ????      0000     ????  0000 ???? ????
worker          ???? ???? ????  ????   ????      ????       ????    ????      ????     ????  ???? ???? ????
"""
"""``robot`` writes in ``private``. The tokens are the owner's: for pull everywhere, for all in another
namespace, expired, revoked; and registry tokens: for all in another namespace, and for nothing. ``put``
changes a namespace or makes one."""

_AGAIN = """
                again
anonymous       ?000
stranger        --00
reader          ---0
writer          +++0
maintainer      +++0
owner           +++0
auditor         ---0
administrator   +++0
robot           --+0
pull-token      ---0
elsewhere-token 0000
expired-token   ????
revoked-token   ????
narrow-token    0000
empty-token     0000
worker          ????
"""
"""To try an image again by the page of its trial, which hides as that does."""

_GENERAL = """
                base catalog any user account person rotate audit admin strangers own explain mine
anonymous       ?    ?       +   ?    ?       ?      ?      ?     ?     ?         ?   ?       ?
stranger        +    +       +   +    +       +      +      -     -     +         +   +       +
reader          +    +       +   +    +       +      +      -     -     -         -   -       +
writer          +    +       +   +    +       +      +      -     -     -         -   -       +
maintainer      +    +       +   +    +       +      +      -     -     -         -   -       +
owner           +    +       +   +    +       +      +      -     -     -         -   +       +
auditor         +    +       +   +    +       +      +      +     -     +         -   +       +
administrator   +    +       +   +    +       +      +      +     +     +         +   +       +
robot           +    +       +   -    +       -      +      -     -     -         -   -       +
pull-token      +    +       +   +    +       -      +      -     -     -         -   -       +
elsewhere-token +    +       +   +    +       -      +      -     -     -         -   -       +
expired-token   ?    ?       ?   ?    ?       ?      ?      ?     ?     ?         ?   ?       ?
revoked-token   ?    ?       ?   ?    ?       ?      ?      ?     ?     ?         ?   ?       ?
narrow-token    +    ?       +   +    +       -      -      -     -     -         -   -       +
empty-token     +    ?       +   ?    ?       ?      ?      ?     ?     ?         ?   ?       ?
worker          ?    ?       ?   ?    ?       ?      ?      ?     ?     ?         ?   ?       ?
"""
"""``strangers`` and ``own`` are about the stranger: what auditors may look at as well, and what not.
``person`` is for a person with a credential that is not limited."""


_APART = """
                open token worker own-page signed
anonymous       +    +     ?      -        ?
stranger        +    +     ?      -        ?
reader          +    +     ?      -        ?
writer          +    +     ?      -        ?
maintainer      +    +     ?      -        ?
owner           +    +     ?      -        ?
auditor         +    +     ?      -        ?
administrator   +    +     ?      -        ?
robot           +    +     ?      -        ?
pull-token      +    +     ?      -        ?
elsewhere-token +    +     ?      -        ?
expired-token   +    ?     ?      -        ?
revoked-token   +    ?     ?      -        ?
narrow-token    +    ?     ?      -        ?
empty-token     +    ?     ?      -        ?
worker          +    ?     +      -        ?
"""
"""``own-page``: what only a page of ours may do, in a session."""


def _cells(text: str) -> dict[str, dict[str, str]]:
    """Right, actor, cell."""
    (first, *rows) = (line.split() for line in text.splitlines() if line.strip())
    return {right: {row[0]: row[number + 1] for row in rows} for number, right in enumerate(first)}


PLACED = {**_cells(_PLACED), **_cells(_AGAIN)}
GENERAL = _cells(_GENERAL) | _cells(_APART)
ACTORS = tuple(PLACED["pull"])
