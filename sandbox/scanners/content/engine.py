"""The engine that searches bytes for all rules at once: yara-x, with our rules and those of the operator.

``compile_rules`` is slow (a tenth of a second) and reads files: a worker does it once. ``Engine`` loads the
result in 6 ms, in the process that searches, before that is confined. The engine's own thread, which ends
slow rules, is started by the first search: **no process may be forked off after it**, since the thread would
be missing there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from sandbox.scanners.content.checks import CHECKS, Check
from sandbox.scanners.facts import Severity

try:
    import yara_x
except ImportError:
    yara_x = None  # type: ignore[assignment]

OWN_RULES = Path(__file__).resolve().parent.parent / "rules"
TIMEOUT_SECONDS = 10
"""Of one search; one of a whole window takes some 20 ms."""
MAX_MATCHES = 1000
"""Of one pattern in one window."""
NO_ENGINE = "secrets and malware were not looked for: there is no yara-x for this machine"

_OFTEN_EXAMPLES = frozenset(
    ("private_key", "jwt", "url_password", "strong_url_password", "docker_auth", "last_word", "assigned")
)

Kind = Literal["secret", "malware"]
Only = Literal["npmrc", "pypirc", "netrc", "configuration"]


class RulesError(Exception):
    """Rules that cannot be used; the message names file, line and reason."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Compiled rules; without the engine ``serialised`` is empty. ``digest`` is another for other rules and
    for another version of the engine."""

    serialised: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What one rule says of itself."""

    id: str
    kind: Kind
    title: str
    severity: Severity
    check: Check | None
    only: Only | None
    is_often_an_example: bool
    """Libraries and their tests are full of it, so that it means little there."""


@dataclass(frozen=True, slots=True)
class Match:
    """Where a rule matched, in the bytes that were searched."""

    rule: Rule
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Matches:
    """All matches of one search. ``flooded`` are rules that match more often than is told; ``unfinished``
    is why it came to no end."""

    found: tuple[Match, ...] = ()
    flooded: tuple[Rule, ...] = ()
    unfinished: str = ""


def compile_rules(folder: Path | None = None) -> Rules:
    """Our own rules, and all ``*.yar`` and ``*.yara`` of ``folder``.

    Raises:
        RulesError: a file cannot be read, or has an error, or a rule says something unknown of itself.
    """
    if yara_x is None:
        return Rules(b"", "none")
    compiler = yara_x.Compiler(includes_enabled=False)
    hashed = hashlib.sha256(importlib.metadata.version("yara-x").encode())
    for path in [*_files(OWN_RULES), *(_files(folder) if folder else ())]:
        try:
            source = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RulesError(f"{path}: {error}") from error
        hashed.update(hashlib.sha256(source.encode()).digest())
        # Two files of an operator may use one name; so may he use one of ours.
        compiler.new_namespace(path.name if path.parent == OWN_RULES else f"{path}")
        try:
            compiler.add_source(source, origin=str(path))
        except yara_x.CompileError as error:
            raise RulesError(str(error)) from error
    rules = compiler.build()
    for rule in rules:
        _described(rule.identifier, rule.tags, dict(rule.metadata))
    kept = io.BytesIO()
    rules.serialize_into(kept)
    return Rules(kept.getvalue(), hashed.hexdigest())


def _files(folder: Path) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in (".yar", ".yara"))
    except OSError as error:
        raise RulesError(f"the folder of rules cannot be read: {error}") from error
    if not found:
        raise RulesError(f"{folder}: there is no file *.yar or *.yara in it")
    return found


def _described(identifier: str, tags: Iterable[str], meta: Mapping[str, object]) -> Rule:
    def word(name: str, allowed: Collection[str]) -> str | None:
        value = meta.get(name)
        if value is not None and value not in allowed:
            raise RulesError(
                f"rule {identifier}: {name} is {value!r}, but one of {', '.join(allowed)} is known"
            )
        return value if isinstance(value, str) else None

    check = word("check", CHECKS)
    severity = word("severity", get_args(Severity))
    only = word("only", get_args(Only))
    return Rule(
        id=identifier.replace("_", "-") if identifier.startswith("ST_") else identifier,
        kind="secret" if "secret" in tags else "malware",
        title=str(meta.get("title") or meta.get("description") or identifier)[:200],
        severity=severity or "high",  # type: ignore[arg-type]
        check=CHECKS[check] if check else None,
        is_often_an_example=check in _OFTEN_EXAMPLES,
        only=only,  # type: ignore[arg-type]
    )


class Engine:
    """Loaded rules. A scanner of them is of the thread that made it, and ends the process in any other. To
    make one takes ten times as long as to search a small file."""

    def __init__(self, rules: Rules, *, timeout_seconds: int = TIMEOUT_SECONDS) -> None:
        """Load ``rules``, which must be what :func:`compile_rules` gave here: they become code."""
        self._timeout_seconds = timeout_seconds
        self._loaded = None
        self._scanner: yara_x.Scanner | None = None
        self._rules: Mapping[tuple[str, str], Rule] = MappingProxyType({})
        if yara_x is None or not rules.serialised:
            return
        self._loaded = yara_x.Rules.deserialize_from(io.BytesIO(rules.serialised))
        self._rules = MappingProxyType(
            {
                (rule.namespace, rule.identifier): _described(rule.identifier, rule.tags, dict(rule.metadata))
                for rule in self._loaded
            }
        )

    @property
    def is_there(self) -> bool:
        """Whether it can search at all."""
        return self._loaded is not None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, by id."""
        return tuple(sorted(self._rules.values(), key=lambda rule: rule.id))

    def search(self, data: bytes) -> Matches:
        """All that the rules find in ``data``, in no order. Only for the thread that calls it first."""
        self._scanner = self._scanner or self._new_scanner()
        return self._search(self._scanner, data)

    def search_once(self, data: bytes) -> Matches:
        """As :meth:`search`, for any thread."""
        return self._search(self._new_scanner(), data)

    def _new_scanner(self) -> yara_x.Scanner | None:
        if self._loaded is None:
            return None
        scanner = yara_x.Scanner(self._loaded)
        scanner.set_timeout(self._timeout_seconds)
        scanner.max_matches_per_pattern(MAX_MATCHES)
        return scanner

    def _search(self, scanner: yara_x.Scanner | None, data: bytes) -> Matches:
        if scanner is None:
            return Matches(unfinished=NO_ENGINE)
        try:
            results = scanner.scan(data)
        except yara_x.TimeoutError:
            return Matches(unfinished=f"a rule took longer than {self._timeout_seconds} s")
        except yara_x.ScanError as error:
            return Matches(unfinished=f"the search failed: {error}")
        found, flooded = [], []
        for result in results.matching_rules:
            rule = self._rules[result.namespace, result.identifier]
            for pattern in result.patterns:
                if len(pattern.matches) >= MAX_MATCHES:
                    flooded.append(rule)
                found += [Match(rule, each.offset, each.offset + each.length) for each in pattern.matches]
            if not any(pattern.matches for pattern in result.patterns):
                # A rule of which the condition alone says something, as by the hash of the whole.
                found.append(Match(rule, 0, 0))
        return Matches(tuple(found), tuple(flooded))
