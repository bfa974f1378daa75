"""Where the names of a layer lead, when folders of an image are links."""

from __future__ import annotations

import pytest

from sandbox.scanners.names import Names

LINKS = {
    "lib": "usr/lib",
    "usr/lib64": "lib",
    "var/run": "/run",
    "a/up": "../b",
    "circle": "round",
    "round": "circle",
    "out": "../../../etc",
    "deep": "a/up",
}


@pytest.fixture
def names() -> Names:
    made = Names()
    made.change(gone=[], made=LINKS)
    return made


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("x", "x"),
        ("usr/lib/x", "usr/lib/x"),
        ("lib", "lib"),
        ("lib/x", "usr/lib/x"),
        ("usr/lib64/a/b", "usr/lib/a/b"),
        ("var/run/x", "run/x"),
        ("a/up/x", "b/x"),
        ("deep/x", "b/x"),
        ("out/passwd", "etc/passwd"),
        ("circle/x", "circle/x"),
    ],
)
def test_a_name_leads_as_a_chroot_would_follow_it(names: Names, name: str, place: str) -> None:
    assert names.place(name) == place


def test_the_names_of_a_place_are_its_own_and_those_through_links(names: Names) -> None:
    assert set(names.names("usr/lib/a/x")) == {"usr/lib/a/x", "lib/a/x", "usr/lib64/a/x"}
    assert set(names.names("b/x")) == {"b/x", "a/up/x", "deep/x"}
    assert names.names("usr/lib") == ["usr/lib"]


def test_what_is_followed_is_bounded() -> None:
    made = Names()
    made.change(gone=[], made={f"l{n}": "d" for n in range(64)})
    assert len(made.names("d/x")) == 65
    assert sum(len(made.names(f"d/{n}")) for n in range(20_000)) < 600_000
    assert made.spent
    few = Names(most=1000)
    few.change(gone=[], made={"a": "../" * 200 + "b"})
    assert few.place("a/x") == "a/x"
    assert few.spent
    deep = Names()
    deep.change(gone=[], made={"a": "/".join(["d"] * 2000)})
    assert deep.place("a/x") == "a/x"
    assert not deep.spent


def test_a_link_that_is_gone_leads_nowhere(names: Names) -> None:
    names.change(gone=["lib"], made={})
    assert names.place("lib/x") == "lib/x"
    assert set(names.names("usr/lib/x")) == {"usr/lib/x", "usr/lib64/x"}
