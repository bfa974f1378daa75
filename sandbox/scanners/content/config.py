"""What is wrong with an image's configuration and history (image-spec, config.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice

from registry.contract.scan import Found, Incomplete
from sandbox.scanners.content.catalogue import misconfigured
from sandbox.scanners.content.checks import is_placeholder
from sandbox.scanners.content.engine import NO_ENGINE
from sandbox.scanners.content.places import CONFIGURATION
from sandbox.scanners.content.redaction import redacted
from sandbox.scanners.content.search import ContentSearch
from sandbox.scanners.facts import FoundThing, IncompleteError

MAX_THINGS = 200
LINE_MAX = 65_536
"""Of a line of the history; for secrets all of it is searched."""
_HIDDEN_WORDS = (
    "(PASSWORD|PASSWD|PASSPHRASE|SECRET|SECRET_KEY|TOKEN|API_?KEY|PRIVATE_KEY|ACCESS_KEY|CREDENTIALS?)"
)
_SECRET_NAMES = re.compile(f"(.*_)?{_HIDDEN_WORDS}", re.IGNORECASE)
_REMOTE = re.compile(r"(^|\s)ADD\s+(?!--checksum)(\S+\s+)*?(https?|ftp)://")
_PIPED = re.compile(r"\b(curl|wget)\b[^|;&]*\|\s*(sudo\s+(-\S+\s+)*)?(/\S+/)?(ba|da|a|z)?sh\b")
_ASSIGNED = re.compile(
    rf"""\b((?:\w{{1,100}}_)?{_HIDDEN_WORDS}(?:=|\s+))("[^"]*"|'[^']*'|[^\s"';&|]+)""", re.IGNORECASE
)
_LOGIN_PORTS = re.compile(r"(22|23|3389)(/tcp)?")


@dataclass(frozen=True, slots=True)
class OfConfig:
    """What is wrong with a configuration, and what of it could not be searched; both together are at most
    ``MAX_THINGS``."""

    found: tuple[Found, ...]
    incomplete: tuple[Incomplete, ...]

    @property
    def is_cut(self) -> bool:
        """Whether there may be more."""
        return len(self.found) + len(self.incomplete) == MAX_THINGS


def config_things(config: Mapping[str, object], search: ContentSearch) -> OfConfig:
    """What is wrong with ``config``, the image's configuration as it came."""
    inner = config.get("config")
    inside: Mapping[str, object] = inner if isinstance(inner, dict) else {}
    searched = list(islice(_secrets(config, inside, search), MAX_THINGS))
    found = [one for one in searched if isinstance(one, Found)]
    env_secrets = {one.where for one in found if one.where.startswith("env ")}
    settings = (one for one in _settings(inside) if one.where not in env_secrets)
    found += islice(chain(settings, _history(config)), MAX_THINGS - len(searched))
    return OfConfig(tuple(found), tuple(one for one in searched if isinstance(one, Incomplete)))


def runs_as_root(user: object) -> bool:
    """Whether this value of ``User`` is root's; nobody named is root."""
    name = str(user or "").partition(":")[0]
    return name in ("", "root") or (name.isdecimal() and int(name) == 0)


def _secrets(
    config: Mapping[str, object], inside: Mapping[str, object], search: ContentSearch
) -> Iterator[Found | Incomplete]:
    if not search.is_there:
        # Each layer says so too, but an image may have none.
        yield _unsearched(NO_ENGINE, "")
        return
    seen: set[tuple[str, bytes]] = set()
    for where, text in _texts(config, inside):
        try:
            things = search.search_text(text.encode("utf-8", "replace"), f"{CONFIGURATION}{where}")
        except IncompleteError as error:
            yield _unsearched(error.reason, where)
            continue
        for thing, value in things:
            # An ENV stands in the history as well.
            if (thing.rule, value) not in seen:
                seen.add((thing.rule, value))
                yield _found(replace(thing, line=None), where)


def _texts(config: Mapping[str, object], inside: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for one in _strings(inside.get("Env")):
        yield f"env {one.partition('=')[0]}", one
    labels = inside.get("Labels")
    for name, value in labels.items() if isinstance(labels, dict) else ():
        yield f"label {name}", f"{name}={value}"
    for key in ("Entrypoint", "Cmd"):
        if words := _strings(inside.get(key)):
            yield key.lower(), " ".join(words)
    health = inside.get("Healthcheck")
    if isinstance(health, dict) and (words := _strings(health.get("Test"))):
        yield "healthcheck", " ".join(words)
    for number, line in _lines(config):
        yield f"history {number}", line


def _settings(inside: Mapping[str, object]) -> Iterator[Found]:
    if runs_as_root(inside.get("User")):
        yield _found(misconfigured("ST-USER-ROOT", str(inside.get("User") or "no USER")), "user")
    health = inside.get("Healthcheck")
    test = _strings(health.get("Test")) if isinstance(health, dict) else []
    if not test or test[0] == "NONE":
        yield _found(misconfigured("ST-NO-HEALTHCHECK"), "healthcheck")
    ports = inside.get("ExposedPorts")
    for port in sorted(map(str, ports)) if isinstance(ports, dict) else ():
        if _LOGIN_PORTS.fullmatch(port):
            yield _found(misconfigured("ST-EXPOSES-REMOTE-LOGIN", port), f"port {port}")
    for one in _strings(inside.get("Env")):
        name, _, value = one.partition("=")
        if _SECRET_NAMES.fullmatch(name) and value and not is_placeholder(value.encode("utf-8", "replace")):
            yield _found(misconfigured("ST-ENV-SECRET", f"({len(value)} characters)"), f"env {name}")


def _history(config: Mapping[str, object]) -> Iterator[Found]:
    for number, whole in _lines(config):
        # Lines may hold secrets, so that no part of them is shown.
        line = whole[:LINE_MAX]
        if _REMOTE.search(line):
            yield _found(misconfigured("ST-ADD-REMOTE"), f"history {number}")
        if _PIPED.search(line):
            yield _found(misconfigured("ST-PIPE-TO-SHELL"), f"history {number}")


def layer_lines(config: Mapping[str, object], layers: int) -> tuple[str, ...]:
    """The line of the history for each layer, as it came; empty lines where the history does not fit the
    layers (image-spec, config.md, "history")."""
    history = config.get("history")
    lines = [
        str(one.get("created_by") or "")[:LINE_MAX]
        for one in (history if isinstance(history, list) else ())
        if isinstance(one, dict) and one.get("empty_layer") is not True
    ]
    return tuple(lines) if len(lines) == layers else ("",) * layers


def without_secrets(line: str, search: ContentSearch) -> str:
    """A line of the history with nothing that may be a secret; empty where nobody can tell."""
    raw = line.encode("utf-8", "replace")
    try:
        things = search.search_text(raw, f"{CONFIGURATION}history")
    except IncompleteError:
        return ""
    for thing, value in things:
        if thing.kind == "secret" and value:
            raw = raw.replace(value, redacted(value).encode())
    return _ASSIGNED.sub(_assigned, raw.decode("utf-8", "replace"))


def _assigned(match: re.Match[str]) -> str:
    value = match[3].strip("\"'")
    is_one = value and not is_placeholder(value.encode("utf-8", "replace"))
    return f"{match[1]}({len(value)} characters)" if is_one else match[0]


def _lines(config: Mapping[str, object]) -> Iterator[tuple[int, str]]:
    history = config.get("history")
    for number, one in enumerate(history if isinstance(history, list) else ()):
        if isinstance(one, dict) and isinstance(line := one.get("created_by"), str):
            yield number, line


def _strings(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _unsearched(reason: str, where: str) -> Incomplete:
    return Incomplete(scanner=ContentSearch.name, where=where[:4096], reason=reason[:300])


def _found(thing: FoundThing, where: str) -> Found:
    return Found(
        kind=thing.kind,
        rule=thing.rule[:100],
        severity=thing.severity,
        title=thing.title[:300],
        remedy=thing.remedy,
        where=where[:4096],
        line=thing.line,
        evidence=thing.evidence[:300],
    )
