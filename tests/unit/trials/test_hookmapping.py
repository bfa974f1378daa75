"""JSON pointers and Docker's notifications, whatever the message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import RequestInvalidError
from registry.trials.hookmapping import IMAGES_MAX, Wished, find, require_mapping, wishes

DIGEST = "sha256:" + "a" * 64
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("/a", {"b": [1, 2]}), ("/a/b/1", 2), ("/x~1y", 3), ("/m~0n", 4), ("/", 5), ("/a/b", [1, 2])],
)
def test_pointers(pointer: str, value: object) -> None:
    assert find({"a": {"b": [1, 2]}, "x/y": 3, "m~n": 4, "": 5}, pointer) == value


@pytest.mark.parametrize("pointer", ["/b", "/a/b/2", "/a/b/-1", "/a/b/01", "/a/b/x", "/a/b/1/c"])
def test_pointers_to_nothing(pointer: str) -> None:
    with pytest.raises(RequestInvalidError, match="has nothing at"):
        find({"a": {"b": [1, 2]}}, pointer)


@pytest.mark.parametrize(
    ("mapping", "payload", "image"),
    [
        ({"image": "/i"}, {"i": "team/app"}, "team/app:latest"),
        ({"image": "/i"}, {"i": f"registry.example/team/app:1@{DIGEST}"}, f"team/app@{DIGEST}"),
        ({"image": "/i"}, {"i": "localhost/team/app:1"}, "team/app:1"),
        ({"tag": "/t"}, {"t": "1"}, "own/app:1"),
        ({"digest": "/d"}, {"d": DIGEST}, f"own/app@{DIGEST}"),
        ({"repository": "/r", "tag": "/t"}, {"r": "a/b", "t": "1"}, "a/b:1"),
    ],
)
def test_images(mapping: dict[str, str], payload: Any, image: str) -> None:
    assert wishes(payload, mapping, place="own/app") == [Wished(image)]


@pytest.mark.parametrize(
    ("image", "place", "meant"),
    [
        ("my.team/app:1", "my.team/", "my.team/app:1"),
        ("my.team/app:1", "my.team/app", "my.team/app:1"),
        ("registry.example/my.team/app:1", "my.team/", "my.team/app:1"),
        ("my.team:5000/my.team/app", "my.team/", "my.team/app:latest"),
        ("my.team/app:1", "other/", "app:1"),
        ("localhost/app:1", "localhost/", "localhost/app:1"),
        ("localhost/app:1", None, "app:1"),
    ],
)
def test_a_first_part_with_a_dot_is_a_host_unless_the_hook_is_for_it(
    image: str, place: str | None, meant: str
) -> None:
    assert wishes({"i": image}, {"image": "/i"}, place=place) == [Wished(meant)]


def test_a_mapping_leads_to_an_image() -> None:
    require_mapping({"tag": "/t"}, has_repository=True)
    with pytest.raises(RequestInvalidError, match="no image and no repository"):
        require_mapping({"tag": "/t"}, has_repository=False)


def test_too_many_images() -> None:
    events = [{"action": "push", "target": {"repository": "a", "tag": str(n)}} for n in range(IMAGES_MAX + 1)]
    with pytest.raises(RequestInvalidError, match="21 images"):
        wishes({"events": events}, "docker", place=None)


@given(ANY)
def test_whatever_comes_is_understood_or_refused(payload: Any) -> None:
    for mapping in ({"image": "/image"}, {"repository": "/a/0", "spec": "/b"}):
        with pytest.raises(RequestInvalidError):
            wishes(payload, mapping, place=None)
    try:
        found = wishes(payload, "docker", place=None)
    except RequestInvalidError:
        return
    assert found == []


def test_an_image_elsewhere_is_of_the_host_that_the_hook_is_for() -> None:
    for image in ("docker.example/lib/app:1", "Docker.Example/lib/app:1", "lib/app:1"):
        found = wishes({"image": image}, {"image": "/image"}, place="team/", host="docker.example")
        assert [one.image for one in found] == ["lib/app:1"]
    # Also where the namespace here begins as the host does.
    dotted = {"image": "docker.example/lib:1"}
    found = wishes(dotted, {"image": "/image"}, place="docker.example/", host="docker.example")
    assert [one.image for one in found] == ["lib:1"]
    for image in ("docker.example:5000/lib:1", "localhost/lib:1", "evil.example/lib:1"):
        with pytest.raises(RequestInvalidError, match=r"this hook is for docker\.example"):
            wishes({"image": image}, {"image": "/image"}, place="team/", host="docker.example")
