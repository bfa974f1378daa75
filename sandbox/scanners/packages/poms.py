"""Which licences an artifact of Java names: in Maven's ``pom.xml``, or in the manifest of a bundle.

Formats: the reference of Maven's POM (``project/licenses/license`` with ``name`` and ``url``); OSGi Core 8,
3.2.1.10 (``Bundle-License``). What cannot be read names none, which is never taken for a free choice.
"""

from __future__ import annotations

import re
from xml.parsers.expat import ExpatError, ParserCreate

from sandbox.scanners.packages.reading import licences

_LICENCE = ["project", "licenses", "license"]
_parameters = re.compile(r';(?:"[^"]*"|[^,"])*')


class _NotReadError(Exception):
    """It declares a type of document, and with it might name things that grow."""


def pom_licences(data: bytes) -> tuple[str, ...]:
    """The name of each licence, or its page where it has none; empty where the pom names none, or is none."""
    found: list[dict[str, str]] = []
    path: list[str] = []

    def begin(name: str, _attributes: object) -> None:
        path.append(name)
        if path == _LICENCE:
            found.append({})

    def end(_name: str) -> None:
        path.pop()

    def text(said: str) -> None:
        if len(path) == 4 and path[:3] == _LICENCE and path[3] in ("name", "url"):
            found[-1][path[3]] = found[-1].get(path[3], "") + said

    def refuse(*_: object) -> None:
        raise _NotReadError

    # For the encoding that a pom may name a codec would be loaded, and nothing may be loaded here.
    parser = ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data.decode("utf-8", "replace").encode(), True)
    except (ExpatError, _NotReadError):
        return ()
    return licences(*(_word(one.get("name", "")) or _word(one.get("url", "")) for one in found))


def bundle_licences(header: str) -> tuple[str, ...]:
    """What the header names, as one text: of several, nobody says that one may choose."""
    named = _parameters.sub("", header).replace('"', "").strip()
    return () if named == "<<EXTERNAL>>" else licences(named)


def _word(text: str) -> str:
    return " ".join(text.split())
