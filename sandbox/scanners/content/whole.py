"""What only the whole image can say: of its configuration, and from what is wrong with its files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from registry.contract.scan import MAX_FOUND, MAX_INCOMPLETE, WORST_FIRST, Found, Scan
from sandbox.scanners.content.catalogue import CATALOGUE, MARK
from sandbox.scanners.content.config import config_things, layer_lines, without_secrets
from sandbox.scanners.content.engine import Engine, Rules
from sandbox.scanners.content.search import ContentSearch

SOON = timedelta(days=30)
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FOLDERS_MAX, _PATH_MAX = 1000, 4096
"""Of ``PATH``, and of a path that anything can be started by."""
_WRITABLE = ("ST-WORLD-WRITABLE-FILE", "ST-WORLD-WRITABLE-FOLDER")


def with_whole(scan: Scan, config: Mapping[str, object], rules: Rules | None, *, now: datetime) -> Scan:
    """``scan`` of the layers, with what is to be said of the whole, if that was asked for, by ``rules``.
    ``config`` is the image's configuration as it came."""
    if rules is None:
        return scan
    search = ContentSearch(Engine(rules), rules.digest)
    # A file for each package, wherever its folder is: others have one for all of them.
    is_distroless = any(one.kind == "dpkg" and not one.path.endswith("/status") for one in scan.packages)
    found = list(whole_image(scan.found, config=config, is_distroless=is_distroless, now=now))
    of_config = config_things(config, search)
    found += of_config.found
    found.sort(key=lambda one: (WORST_FIRST.index(one.severity), one.where, one.rule))
    gaps = (*scan.incomplete, *of_config.incomplete)
    truncated = scan.truncated or of_config.is_cut or len(found) > MAX_FOUND or len(gaps) > MAX_INCOMPLETE
    changed = {"found": tuple(found[:MAX_FOUND]), "incomplete": gaps[:MAX_INCOMPLETE]}
    return scan.model_copy(update={**changed, "truncated": truncated})


def shown_lines(config: Mapping[str, object], layers: int, rules: Rules | None) -> tuple[str, ...]:
    """The line of the history for each layer, without the secrets that ``rules`` and the names of variables
    find in it: a line says which layer it was, and is kept and shown with the scan."""
    lines = layer_lines(config, layers)
    if rules is None:
        return lines
    search = ContentSearch(Engine(rules), rules.digest)
    return tuple(without_secrets(line, search) for line in lines)


def whole_image(
    found: Iterable[Found], *, config: Mapping[str, object], is_distroless: bool, now: datetime
) -> tuple[Found, ...]:
    """``found`` of all files, without marks, and with what they come to. ``config`` is the image's
    configuration as it came."""
    every = list(found)
    inner = config.get("config")
    inside: Mapping[str, object] = inner if isinstance(inner, dict) else {}
    marks = [one for one in every if one.rule.startswith(MARK)]
    kept = [one for one in every if not one.rule.startswith(MARK)]
    kept += _writable_entrypoint(kept, inside)
    for one in marks:
        # Of a file that is gone nothing is wrong any more.
        if one.deleted_in_layer is not None:
            continue
        if one.rule == f"{MARK}certificate" and (rule := _expiry(one.evidence, now)):
            kept.append(_became(one, rule, f"until {one.evidence}"))
        elif one.rule == f"{MARK}shell" and is_distroless:
            kept.append(_became(one, "ST-SHELL-IN-DISTROLESS", ""))
        elif one.rule == f"{MARK}users" and (name := _unknown_user(inside, one.evidence)):
            kept.append(_became(one, "ST-USER-UNKNOWN", name))
    return tuple(kept)


def _became(one: Found, rule: str, evidence: str) -> Found:
    entry = CATALOGUE[rule]
    changed = {"rule": rule, "severity": entry.severity, "title": entry.title, "remedy": entry.remedy}
    return one.model_copy(update={**changed, "evidence": evidence[:300]})


def _expiry(end: str, now: datetime) -> str:
    at = datetime.fromisoformat(end)
    if at <= now:
        return "ST-CERTIFICATE-EXPIRED"
    return "ST-CERTIFICATE-EXPIRES" if at <= now + SOON else ""


def _unknown_user(inside: Mapping[str, object], users: str) -> str:
    name = str(inside.get("User") or "").partition(":")[0]
    # A list that was cut may have had him.
    if not name or name.isdecimal() or users.endswith("…") or len(users) >= 300:
        return ""
    return "" if name in users.split(",") else name


def _writable_entrypoint(found: Iterable[Found], inside: Mapping[str, object]) -> Iterator[Found]:
    words = [inside.get(key) for key in ("Entrypoint", "Cmd")]
    program = next((str(one[0]) for one in words if isinstance(one, list) and one), "")
    if not program:
        return
    started = {
        posixpath.normpath(posixpath.join("/", folder, program)).lstrip("/")
        for folder in _folders(program, inside)[:_FOLDERS_MAX]
        if len(folder) + len(program) < _PATH_MAX
    }
    above: set[str] = set()
    for path in started:
        at = path
        while at and at not in above:
            above.add(at)
            at = at.rpartition("/")[0]
    for one in found:
        is_there = one.layer is not None and one.deleted_in_layer is None
        if one.rule in _WRITABLE and is_there and one.where in above:
            yield _became(one, "ST-WRITABLE-ENTRYPOINT", one.evidence)


def _folders(program: str, inside: Mapping[str, object]) -> list[str]:
    if "/" in program:
        return [str(inside.get("WorkingDir") or "/")]
    env = inside.get("Env")
    values = (
        [one[5:] for one in env if isinstance(one, str) and one.startswith("PATH=")]
        if isinstance(env, list)
        else []
    )
    return (values[-1] if values else _DEFAULT_PATH).split(":")
