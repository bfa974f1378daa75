"""From measurements to the table of docs/hostile.md: which layers stop each attempt, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tests.kit.attempts import LAYERS, MARK, MARKED, ONLY_TOGETHER
from tests.kit.sources import ROOT

PAGE = ROOT / "docs" / "hostile.md"
_BEGIN, _END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
_OWN_RULES = ("capset: all", "write: own uid_map")
_NO_MASKS = frozenset({"masked and read-only paths", "worker's masks"})
_ABSENT = ("ENOENT", "ENXIO", "ENODEV", "ENOTTY", "ENOSYS", "EAFNOSUPPORT")
_NO_FILES = {("own /proc", f"{call}: process of the host") for call in ("kill", "setpriority")}
Results = Mapping[frozenset[str], Mapping[str, str]]
"""For each set of layers that were taken away: attempt, and what stopped it (or ``open``)."""


def combinations() -> tuple[frozenset[str], ...]:
    """Every set of layers that is taken away, from none to three, and the marked one.

    Never those that together keep the host from harm: all capabilities need the user namespace, and so do
    paths that can be written.
    """
    pairs = [
        *(("seccomp", name) for name in LAYERS if name not in ("seccomp", "user namespace", *ONLY_TOGETHER)),
        ("network namespace", "network fence"),
        ("network namespace", "Landlock"),
        ("own /dev", "nosuid, nodev"),
        ("nosuid, nodev", "device cgroup"),
        ("no_new_privs", "nosuid, nodev"),
        ("masked and read-only paths", "capabilities"),
        ("masked and read-only paths", "worker's masks"),
        ("pid namespace", "own /proc"),
        ("own /dev", "nosuid, nodev", "device cgroup"),
        ("seccomp", "outer seccomp", "capabilities"),
        ("seccomp", "outer seccomp", "namespace count"),
    ]
    return (*single_sets(), MARKED, *(frozenset(names) for names in pairs))


def single_sets() -> tuple[frozenset[str], ...]:
    """Nothing taken away, and each layer alone."""
    return (frozenset(), *(frozenset({name}) for name in LAYERS if name not in ONLY_TOGETHER))


def opened(results: Results, without: frozenset[str]) -> set[str]:
    """The attempts that win where these layers are missing."""
    return {name for name, said in results[without].items() if said == "open"}


def make_section(results: Results, reachable: Mapping[str, int]) -> str:
    """The generated part of the page."""
    plain = results[frozenset()]
    alone = {name: opened(results, one) for one in single_sets() for name in one}
    calls = ", ".join(f"{count} {name}" for name, count in reachable.items())
    lines = [
        f"{len(plain)} attempts; system calls that can be reached: {calls}.",
        "",
        "| attempt | what stops it, one layer after the other |",
        "| --- | --- |",
        *(f"| {name} | {_words(_chain(results, name))} |" for name in plain),
        "",
        "Stopped by one layer alone:",
        "",
        *(
            [f"- {name}: {', '.join(sorted(found))}" for name, found in alone.items() if found]
            or ["- nothing"]
        ),
    ]
    return "\n".join(lines) + "\n"


def replace_section(text: str, section: str) -> str:
    """The page with another generated part."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{section}{_END}{after}"


def _chain(results: Results, attempt: str) -> Iterator[tuple[str, str]]:
    """Layer after layer with its answer: the one whose absence changes the answer gave it."""
    gone: frozenset[str] = frozenset()
    said = results[gone][attempt]
    if results[MARKED][attempt] == MARK or said == "SIGSYS":
        yield "seccomp", said
        gone = frozenset({"seccomp"})
    while (said := results[gone][attempt]) != "open":
        more = min(
            (one for one in results if one > gone and one != MARKED and results[one][attempt] != said),
            # Without its network namespace a run has no /sys: that says nothing of who kept it from there.
            key=lambda one: (results[one][attempt] in _ABSENT, len(one)),
            default=gone,
        )
        for name in LAYERS:
            if name in more - gone and (name, attempt) not in _NO_FILES:
                yield name, said
        if more == gone:
            last = _unmeasured(results, gone, attempt)
            yield last, said
            # Each of the two alone answers as both do; never is a run made without either.
            if last == "user namespace" and not gone:
                yield "capabilities", results[frozenset({last})][attempt]
            return
        gone = more


def _unmeasured(results: Results, gone: frozenset[str], attempt: str) -> str:
    """What stops it where nothing more was taken away."""
    said = results[gone][attempt]
    if said == "ENODATA" and results[_NO_MASKS][attempt] == said:
        return "the kernel: it shows nothing"
    if said in ("EROFS", "ENODATA"):
        return "masked and read-only paths"
    if said == "ENOSPC":
        return "namespace count"
    # Not even every capability of the run's own namespaces would do.
    if said in ("EPERM", "EACCES") and attempt not in _OWN_RULES:
        return "user namespace"
    return "the kernel: there is none" if said in _ABSENT else "the kernel"


def _words(chain: Iterable[tuple[str, str]]) -> str:
    return " → ".join(f"{name} ({said})" for name, said in chain)
