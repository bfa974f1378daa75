"""Server CPU of manifest requests beside the peers'."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import peers
from tests.bench.figures import Figure, over, ratio
from tests.bench.load import Target, cpu_per_request
from tests.bench.ours import PRIVATE, PUBLIC, TAG, push_admitted, registry
from tests.bench.pushing import push_image
from tests.kit.images import digest_of
from tests.kit.postgres import PostgresServer, find_binaries, running_postgres

ROUNDS = 7
COUNT = 1000
BARE = 1.6
WORDS = {
    "get tag": "GET by tag",
    "head tag": "HEAD by tag",
    "get digest": "GET by digest",
    "head digest": "HEAD by digest",
}


@dataclass(frozen=True, slots=True)
class _Case:
    key: str
    target: Target
    method: str
    path: str
    count: int = COUNT


def manifests(scratch: Path) -> Iterator[Figure]:
    """GET and HEAD by tag and digest: ours private, gated and by Bearer; the peers as they are cheapest."""
    with ExitStack() as stack:
        cases = _cases(stack, scratch)
        samples: dict[str, list[float]] = defaultdict(list)
        for i in range(ROUNDS + 1):
            for case in cases:
                spent = cpu_per_request(case.target, case.method, case.path, count=case.count)
                if i:  # the first round warms up
                    samples[case.key].append(spent)
    for case in cases:
        yield over(case.key, samples[case.key], "us")
    for how, words in WORDS.items():
        ours = samples[f"ours, {how}"]
        yield ratio(
            f"{words} over bare aiohttp on uvloop", ours, samples[f"bare uvloop, {how}"], at_most=BARE
        )
        yield ratio(f"{words} over distribution", ours, samples[f"distribution, {how}"], at_most=1 / 3)
        yield ratio(f"{words} over olareg", ours, samples[f"olareg, {how}"])
    get = samples["ours, get tag"]
    yield ratio("GET by tag over docker-registry", get, samples["docker-registry, get tag"])
    yield ratio("GET by tag over bare aiohttp on the stdlib's loop", get, samples["bare stdlib, get tag"])
    yield ratio(
        "GET by tag over distribution, both with logs",
        samples["ours with logs, get tag"],
        samples["distribution with logs, get tag"],
        at_most=1 / 2,
    )
    for how in ("get tag", "head digest"):
        yield ratio(
            f"{WORDS[how]} over distribution, PostgreSQL, strict",
            samples[f"ours on PostgreSQL, {how}"],
            samples[f"distribution, {how}"],
            at_most=1,
        )
    # "No dearer" with 5 % for noise: the two differ by less than two rounds of the same do.
    yield ratio(
        "GET by tag, anonymous on a public repository over Bearer",
        samples["ours anonymous, get tag"],
        get,
        at_most=1.05,
    )


def _cases(stack: ExitStack, scratch: Path) -> list[_Case]:
    postgres = stack.enter_context(running_postgres(binaries()))
    url = postgres.url(postgres.create())
    quiet = stack.enter_context(registry(scratch / "quiet"))
    loud = stack.enter_context(registry(scratch / "loud", logs=True))
    strict = stack.enter_context(registry(scratch / "strict", database_url=url))
    manifest = push_admitted(quiet)
    push_admitted(loud)
    push_admitted(strict)
    others = {
        "distribution": stack.enter_context(peers.distribution(scratch / "distribution", logs=False)),
        "distribution with logs": stack.enter_context(peers.distribution(scratch / "logging", logs=True)),
        "olareg": stack.enter_context(peers.olareg(scratch / "olareg")),
        "docker-registry": stack.enter_context(peers.docker_registry(scratch / "docker-registry")),
    }
    for target in others.values():
        push_image(target, PRIVATE, TAG)
    plain = {
        f"bare {loop}": stack.enter_context(peers.bare(scratch / loop, loop, manifest))
        for loop in ("uvloop", "stdlib")
    }
    targets = {"ours": quiet.puller("ours"), **plain, **others}
    by = {"tag": TAG, "digest": digest_of(manifest)}
    ways = {f"{method.lower()} {kind}": (method, f"/v2/{PRIVATE}/manifests/{reference}")
            for method in ("GET", "HEAD") for kind, reference in by.items()}  # fmt: skip
    cases = [
        _Case(f"{name}, {how}", targets[name], *way)
        for how, way in ways.items()
        for name in ("ours", "bare uvloop", "distribution", "olareg")
    ]
    get, head = ways["get tag"], ways["head digest"]
    asked = strict.puller("ours")
    together = replace(asked, pids=(*asked.pids, postmaster(postgres)))
    open_path = f"/v2/{PUBLIC}/manifests/{TAG}"
    return [
        _Case("ours anonymous, get tag", quiet.puller("ours", headers={}), "GET", open_path),
        *cases,
        _Case("ours with logs, get tag", loud.puller("ours"), *get),
        _Case("distribution with logs, get tag", targets["distribution with logs"], *get),
        _Case("ours on PostgreSQL, get tag", asked, *get),
        _Case("ours on PostgreSQL, head digest", asked, *head),
        _Case("ours on PostgreSQL and PostgreSQL itself, get tag", together, *get),
        _Case("bare stdlib, get tag", targets["bare stdlib"], *get),
        _Case("docker-registry, get tag", targets["docker-registry"], *get, count=300),
    ]


def binaries() -> Path:
    """Where PostgreSQL's programs are."""
    found = find_binaries()
    if found is None:
        raise peers.MissingError("PostgreSQL is not installed: scripts/packages.sh bench")
    return found


def postmaster(server: PostgresServer) -> int:
    """The process that all others of the server are below."""
    return int((server.folder / "data/postmaster.pid").read_text().split()[0])
