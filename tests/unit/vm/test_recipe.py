"""The disk is kept under a name that changes with everything it is made from."""

from __future__ import annotations

import dataclasses

import pytest

from tests.vm.recipe import make_recipe, needed, pick

LOCK = """aa==1 \\
    --hash=sha256:11 \\
    --hash=sha256:12
    # via bb
bb[x]==2 ; python_full_version < '3.14' \\
    --hash=sha256:21
    # via
    #   aa
c-c==3 \\
    --hash=sha256:31
"""


def test_lines_of_a_lock_with_their_hashes() -> None:
    assert pick(LOCK, frozenset({"bb", "c-c"})) == (
        "bb[x]==2 ; python_full_version < '3.14' \\\n    --hash=sha256:21\nc-c==3 \\\n    --hash=sha256:31\n"
    )
    with pytest.raises(KeyError):
        pick(LOCK, frozenset({"dd"}))


def test_only_what_a_worker_and_its_tests_need() -> None:
    found = needed(("seatrial", "pytest"))
    assert {"aiohttp", "pydantic-core", "pytest", "pluggy", "yarl"} <= found
    assert not {"seatrial", "sqlalchemy", "boto3", "mypy", "async-timeout"} & found


def test_the_name_changes_with_each_part() -> None:
    recipe = make_recipe()
    assert recipe.digest() == make_recipe().digest()
    others = [
        dataclasses.replace(recipe, suite="other"),
        dataclasses.replace(recipe, mirror="http://other.example"),
        dataclasses.replace(recipe, components="main"),
        dataclasses.replace(recipe, packages=recipe.packages[1:]),
        dataclasses.replace(recipe, requirements=""),
        dataclasses.replace(recipe, files={**recipe.files, "sbin/seatrial-init": "#!/bin/sh\n"}),
        dataclasses.replace(recipe, module="(type other_t)"),
    ]
    assert len(others) == len(dataclasses.fields(recipe))
    assert len({one.digest() for one in (recipe, *others)}) == len(others) + 1
