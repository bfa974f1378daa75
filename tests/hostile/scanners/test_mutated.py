"""Metadata that somebody has changed on purpose: a reader tells what it can and names the rest. It raises
nothing, and comes to an end."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.fuzztargets import Target, targets
from tests.kit.mutating import Seed, mutations, seeds

SEEDS = tuple(seeds())
EACH = 1_500
OTHERS = tuple(targets())
EACH_OF_OTHERS = 150


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.path)
def test_a_changed_file_is_read_or_named(seed: Seed) -> None:
    whole = seed.look(seed.data)
    assert whole.incomplete == ()
    assert whole.packages or whole.owned or whole.system or whole.things
    # The same changes each time: what fails once fails again.
    some = mutations(seed.data, random.Random(seed.path))
    for _ in range(EACH):
        seed.look(next(some))


@pytest.mark.parametrize("target", OTHERS, ids=lambda target: target.name)
def test_a_changed_document_is_read_or_refused(target: Target) -> None:
    choice = random.Random(target.name)
    for seed in target.seeds:
        assert target.run(seed)
        some = mutations(seed, choice)
        for _ in range(EACH_OF_OTHERS // len(target.seeds)):
            target.run(next(some))


@pytest.mark.parametrize("path", sorted({seed.path for seed in SEEDS}))
@settings(max_examples=50)
@given(data=st.binary(max_size=2000))
def test_no_bytes_raise_anything(path: str, data: bytes) -> None:
    Seed(path, data).look(data.ljust(1024, b"\0"))
