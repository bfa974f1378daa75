"""The expectation that a run writes only where it is said to; looked at in its layer when it is over."""

from __future__ import annotations

from registry.contract.expectations import only_writes_in_words
from registry.contract.report import Observation
from registry.oci.printable import printable
from sandbox.images.writes import Write, Writes


def judge_writes(allowed: tuple[str, ...], writes: Writes) -> Observation:
    """Whether all that was written lies below one of the paths."""
    text = only_writes_in_words(allowed)[:300]
    outside = [one for one in writes.entries if not _is_allowed(one, allowed)]
    if outside:
        shown = ", ".join(f"{_text(one.path)} ({one.change})" for one in outside[:5])
        more = f" and {len(outside) - 5} more" if outside[5:] else ""
        return Observation(expectation=text, seen=f"{shown}{more}"[:2000], met=False)
    if writes.count > len(writes.entries):
        seen = f"{writes.count} entries, of which the first {len(writes.entries)} were looked at"
        return Observation(expectation=text, seen=seen, met=None)
    return Observation(expectation=text, seen=f"{writes.count} entries, all of them there", met=True)


def _is_allowed(write: Write, allowed: tuple[str, ...]) -> bool:
    path = _text(write.path)
    if any(path == one or path.startswith(f"{one}/") for one in allowed):
        return True
    # The overlay copies each folder on the way to what is written.
    on_the_way = any(one.startswith(f"{path}/") for one in allowed)
    return on_the_way and write.kind == "folder" and write.change != "deleted"


def _text(path: bytes) -> str:
    return printable(path.decode("utf-8", "backslashreplace"))
