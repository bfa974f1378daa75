"""What a store tells, put in an order in which it can be stored again."""

from __future__ import annotations

import time

from registry.content.rebuilding import Survey, plan
from registry.oci.manifest import parse_manifest
from tests.kit.distribution import small_index, small_manifest
from tests.kit.images import digest_of


def chain(length: int) -> list[bytes]:
    """An image, and indexes of which each lists the one before."""
    found = [small_manifest()]
    for _ in range(length):
        found.append(small_index(found[-1]))
    return found


def test_a_long_chain_of_indexes_takes_no_longer_than_as_many_images() -> None:
    raws = chain(1500)
    found = Survey(manifests={digest_of(raw): raw for raw in reversed(raws)})
    started = time.process_time()
    done, made = plan(found)
    assert time.process_time() - started < 10, "each is read once: else it takes the square of their number"
    # The image's layers are not there.
    assert done.manifests == 1500
    assert [one.raw for one in made] == raws[1:]


def test_those_that_list_one_another_are_left_out() -> None:
    image, alone = small_manifest(), small_index()
    # No bytes have such digests: as they would be in a store that lies.
    one, other = digest_of(b"one"), digest_of(b"other")
    lists_other, lists_one = (
        small_index(image).replace(digest_of(image).encode(), each.encode()) for each in (other, one)
    )
    assert [str(child.digest) for child in parse_manifest(lists_one).children] == [one]
    found = Survey(manifests={one: lists_other, other: lists_one, digest_of(alone): alone})
    done, made = plan(found)
    assert (done.manifests, [each.raw for each in made]) == (1, [alone])
