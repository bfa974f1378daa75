"""Retention rules: what stays and what goes, whatever tags and policies there are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.content.retentionrules import (
    ALL,
    Counts,
    Judged,
    KeepRule,
    Loose,
    Newest,
    Order,
    RetentionPolicy,
    Tag,
    TagJudge,
    attached_to,
    fuse,
    peel,
    policy_of,
)
from registry.content.tagmatching import TagPattern
from registry.oci.versions import NO_VERSION, version_key

DAYS = st.integers(0, 40).map(float)
NAMES = st.sampled_from(
    ["latest", "dev", "1", "1.0", "1.2.0", "v2.0.0", "2.0.0-rc1", "10.1", "nightly-1", "nightly-2"]
)
TAGS = st.lists(
    st.builds(
        lambda name, *known: Tag(name, version_key(name), *known),
        NAMES,
        DAYS,
        st.sampled_from(["pass", "warn", "fail", "error", "pending"]),
        DAYS,
        st.none() | DAYS,
    ),
    unique_by=lambda tag: tag.name,
)
PATTERNS = st.sampled_from(
    [ALL, TagPattern("glob", "n*"), TagPattern("regex", "[0-9.]+"), TagPattern("semver", ">=1.1 stable")]
)
SOME_DAYS = st.none() | st.integers(1, 30)
RULES = st.builds(
    KeepRule, PATTERNS, st.none() | st.integers(1, 4), st.sampled_from(["updated", "version"]), SOME_DAYS,
    SOME_DAYS,
)  # fmt: skip
POLICIES = st.builds(
    RetentionPolicy, st.lists(RULES, max_size=3).map(tuple), failed_days=SOME_DAYS, untagged_days=SOME_DAYS
)


def in_order(tags: Sequence[Tag], order: str) -> list[Tag]:
    """The newest first."""
    if order == "version":
        return sorted(tags, key=lambda tag: (tag.version_key, tag.name), reverse=True)
    return sorted(tags, key=lambda tag: (-tag.moved_days, tag.name), reverse=True)


def judged(
    policy: RetentionPolicy,
    tags: Sequence[Tag],
    protected: Sequence[str] = (),
    promoted: Sequence[str] = (),
) -> dict[str, Judged]:
    newest = {}
    for number, rule in enumerate(policy.keep):
        picking = Newest(policy, number)
        for tag in in_order(tags, rule.order):
            picking.offer(tag)
        newest[number] = picking.found
    judge = TagJudge(
        policy,
        protection=lambda tag: "a rule" if tag in protected else None,
        promoted=promoted,
        newest=newest,
    )
    found = {tag.name: judge.explain(tag) for tag in tags}
    assert {name: one.goes for name, one in found.items()} == {tag.name: judge.judge(tag) for tag in tags}
    return found


@given(POLICIES, TAGS, st.lists(NAMES), st.lists(NAMES))
def test_nothing_goes_that_something_keeps(
    policy: RetentionPolicy, tags: list[Tag], protected: list[str], promoted: list[str]
) -> None:
    found = judged(policy, tags, protected, promoted)
    for tag in tags:
        if tag.name in protected or tag.name in promoted:
            assert not found[tag.name].goes
        failed = policy.failed_days is not None and tag.state in ("fail", "error")
        failed = failed and tag.state_days > (policy.failed_days or 0)
        if not policy.keep and not failed:
            assert not found[tag.name].goes
        for rule in policy.keep:
            if rule.tags != ALL:
                continue
            grounds = [(rule.moved_days, tag.moved_days), (rule.pulled_days, tag.pulled_days)]
            within = any(most is not None and days is not None and days <= most for most, days in grounds)
            if rule.keeps_all or (within and not failed):
                assert not found[tag.name].goes
        assert found[tag.name].why


@given(POLICIES, TAGS)
def test_one_rule_more_keeps_no_tag_less(policy: RetentionPolicy, tags: list[Tag]) -> None:
    """But for the first one: without any, no tag goes."""
    if not policy.keep:
        return
    more = RetentionPolicy((*policy.keep, KeepRule(last=2)), policy.failed_days, policy.untagged_days)
    before, after = judged(policy, tags), judged(more, tags)
    assert {name for name, one in after.items() if one.goes} <= {
        name for name, one in before.items() if one.goes
    }


@given(TAGS, st.integers(1, 4), st.sampled_from(["updated", "version"]))
def test_the_last_ones_stay_and_no_others(tags: list[Tag], last: int, order: Order) -> None:
    policy = RetentionPolicy((KeepRule(last=last, order=order),))
    counted = [tag for tag in tags if order == "updated" or tag.version_key != NO_VERSION]
    expected = {tag.name for tag in in_order(counted, order)[:last]}
    assert {name for name, one in judged(policy, tags).items() if not one.goes} == expected


@given(POLICIES)
def test_a_policy_is_read_as_it_was_written(policy: RetentionPolicy) -> None:
    assert policy_of(policy.document) == policy


GRAPHS = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        st.lists(
            st.tuples(st.sets(st.integers(0, size - 1), max_size=4), st.none() | st.integers(0, size - 1)),
            min_size=size,
            max_size=size,
        ),
        st.sets(st.integers(0, size - 1)),
    )
)


Nodes = list[tuple[set[int], int | None]]
"""What each lists, and what it refers to: those before it only, since digests know no cycles."""


def wave_by_wave(nodes: Nodes, tagged: set[int]) -> tuple[set[int], set[int]]:
    """What goes, and what a tag reaches."""
    reached = set(tagged)
    while True:
        more = {child for number in reached for child in nodes[number][0]}
        more |= {number for number, (_, refers) in enumerate(nodes) if refers in reached}
        if more <= reached:
            break
        reached |= more
    candidates = [
        Loose(
            str(number),
            frozenset(str(other) for other, (lists, _) in enumerate(nodes) if number in lists),
            None if refers is None else str(refers),
        )
        for number, (_, refers) in enumerate(nodes)
        if number not in tagged
    ]
    gone: set[str] = set()
    while fresh := peel(candidates, gone):
        gone |= set(fresh)
    return {int(number) for number in gone}, reached


def nodes_of(graph: list[tuple[set[int], int | None]]) -> Nodes:
    nodes: Nodes = []
    for number, (lists, refers) in enumerate(graph):
        below = {child for child in lists if child < number}
        nodes.append((below, refers if refers is not None and refers < number else None))
    return nodes


@given(GRAPHS)
def test_nothing_goes_that_a_tag_reaches(graph: tuple[Nodes, set[int]]) -> None:
    gone, reached = wave_by_wave(nodes_of(graph[0]), graph[1])
    assert not gone & reached


@given(GRAPHS)
def test_wave_by_wave_goes_all_that_no_tag_reaches(graph: tuple[Nodes, set[int]]) -> None:
    """Where nothing refers to what it lists itself: such hold each other."""
    nodes = [(set(), refers) if refers is not None else (lists, None) for lists, refers in nodes_of(graph[0])]
    gone, reached = wave_by_wave(nodes, graph[1])
    assert gone == set(range(len(nodes))) - reached


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (Counts(10, 10, 5, 5), None),
        (Counts(10, 10, 6, 0), "it would delete 6 of 10 tags; 50 % are the most"),
        (Counts(10, 10, 0, 6), "it would delete 6 of 10 manifests; 50 % are the most"),
        (Counts(100, 0, 21, 0), "it would delete 21 tags and 0 manifests; 20 together are the most"),
        (Counts(0, 0, 0, 0), None),
        (Counts(0, 10, 0, 2, 6), "it would delete 6 of 10 manifests; 50 % are the most"),
        (Counts(0, 100, 0, 20, 50), None),
    ],
)
def test_the_fuse_says_numbers(counts: Counts, said: str | None) -> None:
    assert fuse(counts, cap=20, cap_percent=50) == said


@pytest.mark.parametrize(
    ("tag", "digest"),
    [
        (f"sha256-{'a' * 64}.sig", f"sha256:{'a' * 64}"),
        (f"sha256-{'a' * 64}", f"sha256:{'a' * 64}"),
        (f"sha512-{'a' * 128}.sbom", f"sha512:{'a' * 128}"),
        (f"sha256-{'a' * 63}.sig", None),
        (f"sha512-{'a' * 64}", None),
        (f"sha256-{'a' * 64}sig", None),
        ("latest", None),
    ],
)
def test_what_a_tag_is_attached_to(tag: str, digest: str | None) -> None:
    assert attached_to(tag) == digest
