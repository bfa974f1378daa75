"""Licences: the words of metadata as SPDX expressions, and whether a rule lets one pass. Pure.

What distributions and registries of packages write is seldom SPDX. What has one meaning is translated; what
could have several ("BSD", "GPL" without a version) stays what it is and counts as unknown, never as allowed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import filter as filter_names
from fnmatch import translate
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, Literal

from license_expression import (
    ExpressionError,
    LicenseSymbol,
    LicenseWithExceptionSymbol,
    Licensing,
    get_spdx_licensing,
)

from registry.contract.scan import Package, PackageKind

LicenceVerdict = Literal["allowed", "denied", "unknown"]
MAX_TEXT = 300
"""A longer text is no expression."""
READ_MAX = 300_000
"""So many characters are read of the licences of one image, which takes three seconds at most: the image
writes them."""
_NAMED = 20
_UNKNOWN = "LicenseRef-"
_split = re.compile(r"([(),]|(?<![^\s(),])(?:with|and/or|and|or)(?![^\s(),]))", re.IGNORECASE)
_references = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
_gnu = re.compile(
    r"(agpl|lgpl|gpl|gfdl|gfdl-niv)[ -]?(?:version )?v?(\d)(?:\.(\d))?(?:\.0)?(-only|\+|-or-later| or later)?"
)
_page = re.compile(r"https?://(?:www\.)?(.+?)(?:\.html|\.txt|/)?")
_spelled_out = re.compile(r"(?:the )?gnu (affero |lesser |library )?general public license(?= )")
_FAMILIES = MappingProxyType({None: "gpl", "affero ": "agpl", "lesser ": "lgpl", "library ": "lgpl"})
_abbreviated = re.compile(r".*\(([^()]+)\)")
_OPERATORS: Mapping[str, str] = MappingProxyType(
    {"with": "WITH", "and": "AND", "or": "OR", "and/or": "OR", ",": ",", "(": "(", ")": ")"}
)
_GPL_CLASSPATH = "GPL-2.0-only WITH Classpath-exception-2.0"
_SAME: Mapping[str, str] = MappingProxyType(
    {
        "apache 2": "Apache-2.0",
        "apache 2.0": "Apache-2.0",
        "apache license 2.0": "Apache-2.0",
        "apache license version 2.0": "Apache-2.0",
        "apache license v2.0": "Apache-2.0",
        "apache software license 2.0": "Apache-2.0",
        "apache software license version 2.0": "Apache-2.0",
        "apache-2": "Apache-2.0",
        "apache2": "Apache-2.0",
        "apache2.0": "Apache-2.0",
        "artistic-2": "Artistic-2.0",
        "asl 2.0": "Apache-2.0",
        "boost": "BSL-1.0",
        "bsd 2-clause": "BSD-2-Clause",
        "bsd 3-clause": "BSD-3-Clause",
        "bsd 2-clause license": "BSD-2-Clause",
        "bsd 3-clause license": "BSD-3-Clause",
        "bsd-2": "BSD-2-Clause",
        "bsd-3": "BSD-3-Clause",
        "2-clause bsd": "BSD-2-Clause",
        "3-clause bsd": "BSD-3-Clause",
        "modified bsd": "BSD-3-Clause",
        "new bsd": "BSD-3-Clause",
        "simplified bsd": "BSD-2-Clause",
        "cc0": "CC0-1.0",
        "eclipse distribution license - v 1.0": "BSD-3-Clause",
        "eclipse public license - v 1.0": "EPL-1.0",
        "eclipse public license - v 2.0": "EPL-2.0",
        "eclipse public license 1.0": "EPL-1.0",
        "eclipse public license 2.0": "EPL-2.0",
        "eclipse public license v1.0": "EPL-1.0",
        "eclipse public license v2.0": "EPL-2.0",
        "edl 1.0": "BSD-3-Clause",
        "epl 1.0": "EPL-1.0",
        "epl 2.0": "EPL-2.0",
        "expat": "MIT",
        "gnu general public license version 2 with the gnu classpath exception": _GPL_CLASSPATH,
        "gpl2 w/ cpe": _GPL_CLASSPATH,
        "isc license": "ISC",
        "iscl": "ISC",
        "mit license": "MIT",
        "mit licence": "MIT",
        "mit-license": "MIT",
        "mit/x11": "MIT",
        "the mit license": "MIT",
        "the apache license version 2.0": "Apache-2.0",
        "the apache software license version 2.0": "Apache-2.0",
        "the bsd 2-clause license": "BSD-2-Clause",
        "the bsd 3-clause license": "BSD-3-Clause",
        "mozilla public license 2.0": "MPL-2.0",
        "mozilla public license version 2.0": "MPL-2.0",
        "mpl 2.0": "MPL-2.0",
        "mpl-2": "MPL-2.0",
        "mplv2.0": "MPL-2.0",
        "mplv1.1": "MPL-1.1",
        "psf-2": "PSF-2.0",
        "the unlicense": "Unlicense",
        "zlib/libpng": "Zlib",
        "bison exception": "Bison-exception-2.2",
        "classpath exception": "Classpath-exception-2.0",
        "font exception": "Font-exception-2.0",
        "gcc exception": "GCC-exception-3.1",
        "gcc-runtime-library exception": "GCC-exception-3.1",
        "libtool exception": "Libtool-exception",
        "llvm exception": "LLVM-exception",
    }
)
"""Other words, in lower case and without commas, for what SPDX calls so."""
_PAGES: Mapping[str, str] = MappingProxyType(
    {
        "apache.org/licenses/license-2.0": "Apache-2.0",
        "creativecommons.org/publicdomain/zero/1.0": "CC0-1.0",
        "eclipse.org/legal/epl-2.0": "EPL-2.0",
        "eclipse.org/legal/epl-v10": "EPL-1.0",
        "eclipse.org/legal/epl-v20": "EPL-2.0",
        "eclipse.org/org/documents/edl-v10.php": "BSD-3-Clause",
        "mozilla.org/mpl/2.0": "MPL-2.0",
        "opensource.org/licenses/apache-2.0": "Apache-2.0",
        "opensource.org/licenses/bsd-2-clause": "BSD-2-Clause",
        "opensource.org/licenses/bsd-3-clause": "BSD-3-Clause",
        "opensource.org/licenses/isc": "ISC",
        "opensource.org/licenses/mit": "MIT",
        "opensource.org/licenses/mit-license.php": "MIT",
    }
)
"""The pages of licences by which metadata of Java names them, in lower case."""


@dataclass(frozen=True, slots=True)
class Licences:
    """What metadata says. ``expression`` is SPDX's, with ``LicenseRef-…`` for parts that are no name of
    SPDX's; ``None`` where nothing of it is one. ``unknown`` are those parts as they were written."""

    expression: str | None
    unknown: tuple[str, ...] = ()

    @property
    def named(self) -> str | None:
        """What a rule can name: the expression, or what is wholly unknown as ``LicenseRef-…``; ``None``: the
        metadata says nothing."""
        return self.expression or " AND ".join(dict.fromkeys(map(_reference, self.unknown))) or None


def parse_licences(kind: PackageKind, texts: Sequence[str]) -> Licences:
    """The licences of a package as its metadata has them. All of several texts hold; but of those of a Java
    package one may choose, as the reference of Maven's POM says, and those of a Python package say the same
    thing again, so that what is known of them says it."""
    parsed = [_parse(text) for text in dict.fromkeys(texts)]
    if kind == "python" and (known := [one for one in parsed if one.expression and not one.unknown]):
        parsed = known
    unknown = tuple(dict.fromkeys(word for one in parsed for word in one.unknown))
    parts = list(dict.fromkeys(one.expression for one in parsed if one.expression))
    if not parts:
        return Licences(None, (" or ".join(unknown),) if kind == "java" and unknown else unknown)
    # What is wholly unknown still stands beside the rest.
    parts += dict.fromkeys(_reference(one.unknown[0]) for one in parsed if not one.expression and one.unknown)
    if kind == "java":
        return Licences(" OR ".join(parts), unknown)
    joined = [f"({part})" if len(parts) > 1 and " OR " in part else part for part in parts]
    return Licences(" AND ".join(joined), unknown)


def declared_licences(packages: Iterable[Package]) -> Iterator[Licences | None]:
    """The licences of each package. ``None``: there is more text than is read (:data:`READ_MAX`)."""
    known: dict[tuple[PackageKind, tuple[str, ...]], Licences | None] = {}
    read = 0
    for package in packages:
        said = (package.kind, package.licences)
        if said not in known:
            read += sum(min(len(text), MAX_TEXT) for text in package.licences)
            known[said] = parse_licences(*said) if read <= READ_MAX else None
        yield known[said]


def read_licences(packages: Iterable[Package]) -> Iterator[tuple[Package, Licences | None]]:
    """Packages with their :func:`declared_licences`, those left out that a distribution's package brought:
    they are a part of that one."""
    counted = [package for package in packages if package.owned_by is None]
    return zip(counted, declared_licences(counted), strict=True)


def references_in(licences: Licences) -> Mapping[str, str]:
    """The ``LicenseRef-…`` in :attr:`Licences.named`, and the word of the metadata that each stands for."""
    words = {
        _reference(word): word
        for text in licences.unknown
        for word in (*reversed([part.strip() for part in _split.split(text)]), text)
        if word
    }
    named = dict.fromkeys(_references.findall(licences.named or ""))
    return {name: words.get(name, name) for name in named}


def judge_licences(expression: str | None, allow: Sequence[str], deny: Sequence[str]) -> LicenceVerdict:
    """What a rule makes of an SPDX expression. ``allow`` and ``deny`` are names of SPDX's, ``*`` in them any
    characters; ``A WITH E`` names the two together.

    A name that is denied is denied; with ``allow`` also one that is not in it. What has an exception is
    judged as without it, unless the two together are named. Of ``AND`` the worst counts and of ``OR`` the
    best, since one may choose. What SPDX does not know is unknown, unless a list has its ``LicenseRef-…``.
    """
    if not expression:
        return "unknown"
    tree = _tree(expression)
    if tree is None:
        return "unknown"
    return _judged(tree, *(tuple(map(str.lower, names)) for names in (allow, deny)))


def unknown_names(names: Iterable[str]) -> Sequence[str]:
    """Which names of a rule name nothing that SPDX knows, and no ``LicenseRef-…``: it would never apply."""
    return [name for name in names if not all(map(_names_some, name.lower().split(" with ")))]


@dataclass(frozen=True, slots=True)
class LicenceCount:
    """How many packages of an image have the same licences. ``licence`` is an expression where
    ``is_known``, else the words of the metadata, and empty where that says nothing."""

    licence: str
    is_known: bool
    packages: int
    names: tuple[str, ...]


def count_licences(packages: Iterable[Package]) -> Sequence[LicenceCount]:
    """The licences of packages, the most frequent first, as :func:`read_licences` reads them; where that
    reads no more, they are not known."""
    names: dict[tuple[str, bool], list[str]] = {}
    found: Counter[tuple[str, bool]] = Counter()
    for package, read in read_licences(packages):
        expression = None if read is None else read.expression
        is_known = read is not None and expression is not None and not read.unknown
        key = (expression or ", ".join(package.licences), is_known)
        found[key] += 1
        names.setdefault(key, []).append(package.name)
    order = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [
        LicenceCount(licence, is_known, number, tuple(dict.fromkeys(names[licence, is_known]))[:_NAMED])
        for (licence, is_known), number in order
    ]


@cache
def _licensing() -> Licensing:
    # The library knows names of another project too, and takes "GPL" and "LicenseRef-Apache" for a version.
    return Licensing(
        [
            LicenseSymbol(
                symbol.key,
                aliases=tuple(name for name in symbol.aliases if _is_of_spdx(name)),
                is_exception=symbol.is_exception,
            )
            for symbol in get_spdx_licensing().known_symbols.values()
            if _is_of_spdx(symbol.key)
        ]
    )


def _tree(text: str) -> Any | None:
    """What an expression says; ``None``: it is none. Whoever makes an image writes it."""
    try:
        return _licensing().parse(text, strict=True)
    except (ExpressionError, RecursionError, AssertionError, IndexError):
        # The last two where an operator or a parenthesis has nothing beside it.
        return None


def _is_of_spdx(name: str) -> bool:
    return not name.startswith(_UNKNOWN) and name != "GPL"


def _parse(text: str) -> Licences:
    if len(text) > MAX_TEXT:
        return Licences(None, (text[:MAX_TEXT],))
    # "Apache License, Version 2.0" is one name, and not two.
    single = _name(text)
    words = [single] if single else _translated(text)
    unknown = [word for word in words if word.startswith(_UNKNOWN)]
    if single is None and not set(words) - set(unknown) - set(_OPERATORS.values()):
        return Licences(None, (text,) if text else ())
    tree = _tree(" ".join(words))
    if tree is None:
        return Licences(None, (text,) if text else ())
    return Licences(tree.render(), (text,) if unknown else ())


def _translated(text: str) -> Sequence[str]:
    """The words of an expression; what is no name of SPDX's is a reference. A comma binds least, as Debian's
    "A or B, and C"."""
    words: list[str] = []
    after_comma = False
    for word in map(str.strip, _split.split(text)):
        operator = _OPERATORS.get(word.lower())
        if after_comma and word and operator not in ("AND", "OR"):
            words.append("AND")
        after_comma = after_comma and not word
        if operator == ",":
            is_whole = words.count("(") == words.count(")")
            words = ["(", *words, ")"] if "OR" in words and is_whole else words
            after_comma = True
        elif operator is not None:
            words.append(operator)
        elif word:
            name = _name(word)
            if name is None and words[-1:] == ["WITH"]:
                # SPDX has no name of one's own for an exception.
                words[-1] = "AND"
            words.append(name or _reference(word))
    return words


def _name(text: str) -> str | None:
    """What SPDX calls this, if it has one name for it."""
    folded = " ".join(text.lower().replace(",", "").split())
    known = _licensing().known_symbols
    if abbreviated := _abbreviated.fullmatch(folded):
        return _name(abbreviated[1])
    short = _spelled_out.sub(lambda match: _FAMILIES[match[1]], folded)
    if gnu := _gnu.fullmatch(short):
        family, major, minor, later = gnu.groups()
        invariants = "-no-invariants" if family == "gfdl-niv" else ""
        ending = "-only" if later in (None, "-only") else "-or-later"
        name = f"{family.removesuffix('-niv').upper()}-{major}.{minor or 0}{invariants}{ending}"
        return name if name in known else None
    if folded in _SAME:
        return _SAME[folded]
    if page := _page.fullmatch(folded):
        return _PAGES.get(page[1])
    return _by_lower_case().get(folded)


@cache
def _by_lower_case() -> Mapping[str, str]:
    found = {}
    for key, symbol in _licensing().known_symbols.items():
        for name in (key, *symbol.aliases):
            found[name.lower()] = key
    return MappingProxyType(found)


def _names_some(pattern: str) -> bool:
    known = _by_lower_case()
    return pattern in known or pattern.startswith(_UNKNOWN.lower()) or bool(filter_names(known, pattern))


def _reference(word: str) -> str:
    """A name of our own for what is none; one that is such a name stays it."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", word.removeprefix(_UNKNOWN))
    return _UNKNOWN + (plain[:60].strip("-") or "unknown")


def _judged(tree: Any, allow: Sequence[str], deny: Sequence[str]) -> LicenceVerdict:
    if isinstance(tree, LicenseWithExceptionSymbol):
        both = f"{tree.license_symbol.key} WITH {tree.exception_symbol.key}"
        if _matches(both, deny):
            return "denied"
        if _matches(both, allow):
            return "allowed"
        return _judged(tree.license_symbol, allow, deny)
    if tree.isliteral:
        return _judged_name(str(tree.key), allow, deny)
    verdicts = {_judged(part, allow, deny) for part in tree.args}
    order: tuple[LicenceVerdict, ...] = ("denied", "unknown", "allowed")
    if tree.operator.strip().upper() == "OR":
        order = ("allowed", "unknown", "denied")
    return next(verdict for verdict in order if verdict in verdicts)


def _judged_name(name: str, allow: Sequence[str], deny: Sequence[str]) -> LicenceVerdict:
    if _matches(name, deny):
        return "denied"
    if _matches(name, allow):
        return "allowed"
    if name.lower() not in _by_lower_case():
        return "unknown"
    return "denied" if allow else "allowed"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return _any_of(tuple(patterns)).fullmatch(name.lower()) is not None


@lru_cache(maxsize=8)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    # One of a hundred patterns each, held against each name of an image one by one, takes ten times as long.
    return re.compile("|".join(map(translate, patterns)) or "(?!)")
