"""What the self-test's run shows of each mechanism: its record, and what its program saw from inside."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from registry.contract.report import Run
from sandbox.program import shown_answer
from sandbox.selftest import CAPABILITIES, FORKS, MEMORY_BYTES, OUTSIDE, PIDS, Tried

_MIB = 1024 * 1024
_BY_REQUEST = frozenset({"cpu set", "block io", "egress", "bandwidth"})
_REFUSED_BY_LIST = ("unshare", "keyctl", "bpf")


@dataclass(frozen=True, slots=True)
class Proof:
    """``applied`` is what the record says, read back from the kernel; ``proven`` that this, and all that was
    seen from inside, is as promised; ``seen`` says what that was."""

    applied: bool
    proven: bool
    seen: str


@dataclass(frozen=True, slots=True)
class _Fact:
    mechanism: str
    holds: bool
    seen: str


def proofs(tried: Tried) -> Mapping[str, Proof]:
    """The proof of each mechanism that the run had or went without, by name; none where nothing was run."""
    report = tried.report
    if report.error is not None or not report.runs:
        return {}
    facts = [*_inside(tried.answers or {}), *_outside(report.runs[0])]
    found = {}
    for line in report.mechanisms:
        if not line.applied and line.name in _BY_REQUEST - tried.asked:
            continue
        mine = [fact for fact in facts if fact.mechanism == line.name] if line.applied else []
        said = [line.detail, *(fact.seen for fact in mine)]
        found[line.name] = Proof(
            applied=line.applied,
            proven=line.applied and all(fact.holds for fact in mine),
            seen="; ".join(text for text in said if text),
        )
    return found


def why_failed(tried: Tried) -> str | None:
    """Why the self-test itself came to nothing, or ``None``."""
    if tried.report.error is not None:
        return tried.report.error.message
    if tried.answers is None:
        return "its program did not say what it saw"
    return None


def _inside(answers: Mapping[str, int]) -> Iterator[_Fact]:
    """What the program was answered. Anything that it was not is no fact."""
    if not answers:
        return
    yield _Fact("pid namespace", answers["pid"] == 1, f"inside it is process {answers['pid']}")
    yield _Fact("own ids", answers["uid"] == 1000, f"inside it is user {answers['uid']}")
    unreachable = answers["socket"] == 3 and answers["connect"] in (-errno.ENETUNREACH, -errno.EPERM)
    outside = f"reaching an address outside: {shown_answer(answers['connect'])}"
    yield _Fact("network namespace", unreachable, outside)
    held = [bit for bit in range(CAPABILITIES) if answers[f"capability {bit}"] == 1]
    yield _Fact("capabilities", not held, f"of {CAPABILITIES}, {len(held)} can be had")
    yield _Fact("no_new_privs", answers["no_new_privs"] == 1, "inside the kernel says that it is set")
    refused = {name: answers[name] for name in (*_REFUSED_BY_LIST, "vsock")}
    listed = ", ".join(f"{name} {shown_answer(answer)}" for name, answer in refused.items())
    filtered = answers["filtered"] == 2 and all(answer < 0 for answer in refused.values())
    yield _Fact("seccomp", filtered, f"inside: {listed}")
    yield _Fact("uts namespace", answers["sethostname"] < 0, "its name cannot be changed inside")
    gone = answers["host file"] == -errno.ENOENT
    yield _Fact("pivot_root", gone, f"a file of the host by its path: {shown_answer(answers['host file'])}")
    yield _Fact("mount namespace", answers["mount"] < 0, f"mounting inside: {shown_answer(answers['mount'])}")
    kept = answers["setting"] < 0
    yield _Fact(
        "user namespace", kept, f"writing a setting of the kernel: {shown_answer(answers['setting'])}"
    )
    if (forks := answers.get("forks")) is not None:
        yield _Fact(
            "cgroup limits",
            forks < PIDS,
            f"{FORKS} processes asked for, at most {PIDS} with the first: {forks} started",
        )


def _outside(run: Run) -> Iterator[_Fact]:
    """What was seen of the run from here."""
    asked, most = 2 * MEMORY_BYTES // _MIB, MEMORY_BYTES // _MIB
    ended = "ended by the kernel" if run.oom_killed else f"it went on ({run.reason})"
    yield _Fact("cgroup limits", run.oom_killed, f"{asked} MiB of memory asked for, at most {most}: {ended}")
    if run.throttled_seconds:
        # Where there was none, others may have taken so much that it never came to its limit.
        waited = f"waited {run.throttled_seconds:.2f} s for its share of the processor"
        yield _Fact("cgroup limits", holds=True, seen=waited)
    if run.outbound is not None:
        attempts = sum(one.attempts for one in run.outbound if (one.address, one.port) == OUTSIDE)
        yield _Fact("network fence", attempts > 0, f"attempts to reach {OUTSIDE[0]} counted: {attempts}")
