"""Licences as metadata writes them, as SPDX expressions; and what a rule makes of those."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.advisories.licences import (
    READ_MAX,
    Licences,
    count_licences,
    judge_licences,
    parse_licences,
    references_in,
)
from registry.contract.scan import Package, PackageKind

KNOWN = [
    ("dpkg", ("GPL-2+", "Expat", "GPL-2+"), "GPL-2.0-or-later AND MIT"),
    ("dpkg", ("GPL-1+ or Artistic-2, and BSD-3-clause",),
     "(GPL-1.0-or-later OR Artistic-2.0) AND BSD-3-Clause"),
    ("dpkg", ("GPL-2 or MIT", "ISC"), "(GPL-2.0-only OR MIT) AND ISC"),
    ("dpkg", ("MIT, ISC, Zlib",), "MIT AND ISC AND Zlib"),
    ("dpkg", ("GPL-3+ with GCC-Runtime-Library exception", "GFDL-NIV-1.3+"),
     "GPL-3.0-or-later WITH GCC-exception-3.1 AND GFDL-1.3-no-invariants-or-later"),
    ("rpm", ("GPLv2+ and LGPLv2+ and (MPLv2.0 or ASL 2.0)",),
     "GPL-2.0-or-later AND LGPL-2.0-or-later AND (MPL-2.0 OR Apache-2.0)"),
    ("apk", ("gpl-2.0-only and mit",), "GPL-2.0-only AND MIT"),
    ("npm", ("(MIT OR Apache-2.0)",), "MIT OR Apache-2.0"),
    ("python", ("Apache License, Version 2.0",), "Apache-2.0"),
    ("python", ("see LICENSE", "MIT License"), "MIT"),
    ("python", ("MIT", "BSD License"), "MIT"),
    ("python", ("GNU General Public License v3 or later (GPLv3+)", "ISC License (ISCL)"),
     "GPL-3.0-or-later AND ISC"),
    ("python", ("GNU Lesser General Public License v3 or later (LGPLv3+)",), "LGPL-3.0-or-later"),
    ("apk", ("The GNU Affero General Public License, version 3",), "AGPL-3.0-only"),
    ("java", ("The Apache Software License, Version 2.0",), "Apache-2.0"),
    ("java", ("https://www.apache.org/licenses/LICENSE-2.0.txt",), "Apache-2.0"),
    ("java", ("EPL 2.0", "GPL2 w/ CPE"), "EPL-2.0 OR GPL-2.0-only WITH Classpath-exception-2.0"),
    ("java", ("Apache-2.0,http://opensource.org/licenses/MIT/",), "Apache-2.0 AND MIT"),
]  # fmt: skip
UNKNOWN = [
    "BSD",
    "GPL",
    "SEE LICENSE IN x",
    "custom:foo MIT",
    "MIT AND",
    "(" * 250,
    "MIT " * 100,
    "with",
    "MIT WITH MIT",
]


@pytest.mark.parametrize(("kind", "texts", "expression"), KNOWN)
def test_what_has_one_meaning_is_an_expression(
    kind: PackageKind, texts: tuple[str, ...], expression: str
) -> None:
    assert parse_licences(kind, texts) == Licences(expression)
    # Once normalised it stays as it is.
    assert parse_licences("apk", (expression,)) == Licences(expression)


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_could_mean_several_things_stays_what_it_is(text: str) -> None:
    found = parse_licences("dpkg", (text,))
    assert found.expression is None
    assert found.unknown == (text[:300],)


def test_what_is_known_in_part_is_not_lost() -> None:
    found = parse_licences("dpkg", ("GPL-2+ with OpenSSL exception or MIT",))
    assert found.expression == "(GPL-2.0-or-later AND LicenseRef-OpenSSL-exception) OR MIT"
    found = parse_licences("rpm", ("GPLv2+ and BSD",))
    assert found == Licences("GPL-2.0-or-later AND LicenseRef-BSD", ("GPLv2+ and BSD",))
    assert judge_licences(found.expression, (), ("GPL-*",)) == "denied"
    assert judge_licences(found.expression, ("GPL-*",), ()) == "unknown"
    assert judge_licences(found.expression, ("GPL-*", "LicenseRef-BSD"), ()) == "allowed"
    found = parse_licences("dpkg", ("GPL-3", "weird terms"))
    assert found == Licences("GPL-3.0-only AND LicenseRef-weird-terms", ("weird terms",))
    assert parse_licences("dpkg", ()) == Licences(None)
    # What a name was made for is known by that name, and its name is not made longer.
    assert parse_licences("dpkg", ("0", "MIT")).named == "MIT AND LicenseRef-0"
    assert parse_licences("npm", ("LicenseRef-0 AND MIT",)).named == "LicenseRef-0 AND MIT"
    assert parse_licences("dpkg", ("LicenseRef-0", "BSD")).named == "LicenseRef-0 AND LicenseRef-BSD"


GPL = "GPL-2.0-or-later"
JUDGED = [
    ("MIT", (), (), "allowed"),
    ("MIT", ("mit",), (), "allowed"),
    ("MIT", ("Apache-2.0",), (), "denied"),
    ("MIT", ("MIT",), ("M*",), "denied"),
    (None, (), (), "unknown"),
    ("", ("*",), (), "unknown"),
    ("MIT AND", (), (), "unknown"),
    ("LicenseRef-x", (), (), "unknown"),
    ("LicenseRef-x", ("MIT",), (), "unknown"),
    (f"MIT AND {GPL}", (), ("GPL-*",), "denied"),
    (f"MIT OR {GPL}", (), ("GPL-*",), "allowed"),
    (f"LicenseRef-x OR {GPL}", (), ("GPL-*",), "unknown"),
    (f"LicenseRef-x AND {GPL}", (), ("GPL-*",), "denied"),
    ("LicenseRef-x AND MIT", (), (), "unknown"),
    (f"MIT AND ({GPL} OR ISC)", (), ("GPL-*",), "allowed"),
    (f"{GPL} WITH Classpath-exception-2.0", (), ("GPL-*",), "denied"),
    (f"{GPL} WITH Classpath-exception-2.0", (f"{GPL} with classpath-exception-2.0",), (), "allowed"),
    (f"{GPL} WITH Classpath-exception-2.0", ("GPL-*",), (), "allowed"),
    (f"{GPL} WITH Classpath-exception-2.0", (), ("* WITH Classpath-*",), "denied"),
    (f"{GPL} WITH LicenseRef-x", (), (), "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "allow", "deny", "verdict"), JUDGED)
def test_a_rule_judges_an_expression(
    expression: str | None, allow: tuple[str, ...], deny: tuple[str, ...], verdict: str
) -> None:
    assert judge_licences(expression, allow, deny) == verdict


@pytest.mark.parametrize(
    "text", ["and MIT", "exceptionand/or", ")", "( OR --", "()classpath exception and ", "(" * 300]
)
def test_what_is_no_expression_is_unknown(text: str) -> None:
    assert parse_licences("dpkg", (text,)) == Licences(None, (text,))
    assert judge_licences(text, ("*",), ()) == "unknown"


@given(st.lists(st.text(alphabet="MITGPLBSD-+20().,/ \u00e9andorwith", max_size=300), max_size=3))
def test_whatever_metadata_says_is_an_expression_or_unknown(texts: list[str]) -> None:
    found = parse_licences("dpkg", texts)
    if found.expression is not None:
        again = parse_licences("dpkg", (found.expression,))
        assert again.expression == found.expression or len(found.expression) > 300
        assert judge_licences(found.expression, ("*",), ()) in ("allowed", "unknown")


def package(name: str, *licences: str, owned_by: str | None = None) -> Package:
    return Package(
        kind="dpkg", ecosystem="Debian:12", name=name, version="1", licences=licences, path="x", layer=0,
        owned_by=owned_by,
    )  # fmt: skip


def test_of_several_licences_of_java_one_may_choose() -> None:
    said = parse_licences("java", ("LGPL, some day", "Apache License, Version 2.0"))
    assert said.expression == "Apache-2.0 OR LicenseRef-LGPL-some-day"
    assert judge_licences(said.named, ("Apache-2.0",), ()) == "allowed"
    assert parse_licences("java", ("ours", "theirs")) == Licences(None, ("ours or theirs",))
    assert parse_licences("java", ()) == Licences(None)


@pytest.mark.parametrize("kind", ["apk", "java", "python"])
def test_each_reference_has_the_word_that_it_stands_for(kind: PackageKind) -> None:
    said = parse_licences(kind, ("MIT or my/own and (other one)", "w e i r d"))
    assert said.named is not None
    assert references_in(said) == {
        "LicenseRef-my-own": "my/own",
        "LicenseRef-other-one": "other one",
        "LicenseRef-w-e-i-r-d": "w e i r d",
    }
    assert references_in(Licences("MIT")) == {}


def test_of_more_text_than_is_read_the_licences_are_not_known() -> None:
    each = 50 * 300
    many = [
        package(str(n), *(f"{n} {k}".ljust(300, "x") for k in range(50))) for n in range(READ_MAX // each)
    ]
    found = count_licences([package("a", "MIT"), *many, package("b", "ISC"), package("c", "MIT")])
    short = {one.licence: (one.is_known, one.packages) for one in found if len(one.licence) < 300}
    # What was read stays known, wherever it comes again.
    assert short == {"MIT": (True, 2), "ISC": (False, 1)}


def test_licences_are_counted_over_an_image() -> None:
    found = count_licences(
        [
            package("a", "Expat"),
            package("b", "MIT"),
            package("c", "weird"),
            package("d"),
            package("e", "GPL-2", owned_by="b"),
        ]
    )
    assert [(one.licence, one.is_known, one.packages, one.names) for one in found] == [
        ("MIT", True, 2, ("a", "b")),
        ("", False, 1, ("d",)),
        ("weird", False, 1, ("c",)),
    ]
