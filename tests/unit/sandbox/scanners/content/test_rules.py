"""Each rule finds its true examples and not its false ones."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from sandbox.scanners.content.engine import Engine, RulesError, compile_rules
from sandbox.scanners.content.search import ContentSearch
from sandbox.scanners.facts import Entry, FoundThing
from tests.kit import planted
from tests.kit.sources import ROOT, tracked_files


@pytest.fixture(scope="module")
def search() -> ContentSearch:
    rules = compile_rules()
    return ContentSearch(Engine(rules), rules.digest)


def looked_at(search: ContentSearch, path: str, content: bytes) -> tuple[FoundThing, ...]:
    entry = Entry(path=path, kind="file", size_bytes=len(content), mode=0o100644, uid=0, gid=0)
    facts = search.look(entry, io.BytesIO(content))
    assert facts.incomplete == ()
    return facts.things


def test_each_rule_has_examples() -> None:
    rules = {rule.id for rule in Engine(compile_rules()).rules}
    assert rules == planted.secrets().keys() | planted.malware().keys()


@pytest.mark.parametrize("rule", [*planted.secrets(), *planted.malware()])
def test_a_rule_finds_its_true_examples_only(search: ContentSearch, rule: str) -> None:
    examples = {**planted.secrets(), **planted.malware()}[rule]
    for text in examples.true:
        is_program = text.startswith("\x7fELF")
        for content in (text, text if is_program else f"first line\n{text}\nlast line\n"):
            found = looked_at(search, examples.path, content.encode("latin-1"))
            # One thing is told once, whatever other rules match the same place.
            assert [thing.rule for thing in found] == [rule], content
    for text in examples.false:
        assert looked_at(search, examples.path, f"first line\n{text}\n".encode("latin-1")) == (), text


def test_a_token_with_a_wrong_checksum_is_told_as_such(search: ContentSearch) -> None:
    good, wrong = planted.token("ghp_"), planted.token("ghp_", good=False)
    assert [(thing.severity, thing.line) for thing in looked_at(search, "etc/x", good.encode())] == [
        ("critical", 1)
    ]
    (thing,) = looked_at(search, "etc/x", b"\n\n" + wrong.encode())
    assert (thing.severity, thing.line) == ("low", 3)
    assert "checksum" in thing.title


def test_examples_in_libraries_are_of_little_weight(search: ContentSearch) -> None:
    key = planted.private_key().encode()
    path = "usr/lib/python3/dist-packages/tornado/test/test.key"
    assert [thing.severity for thing in looked_at(search, path, key)] == ["info"]
    # A token says by itself that it is none.
    token = planted.token("ghp_").encode()
    assert [thing.severity for thing in looked_at(search, path, token)] == ["critical"]


def test_this_clone_is_clean(search: ContentSearch) -> None:
    names = [path.relative_to(ROOT) for path in tracked_files()]
    mine = [name for name in names if "scanners" in name.parts or name.name == "planted.py"]
    assert len(mine) > 10
    for path in mine:
        things = looked_at(search, str(path), (ROOT / path).read_bytes())
        assert [thing.rule for thing in things] == [], path


def test_an_operators_rules_are_added(tmp_path: Path) -> None:
    (tmp_path / "ours.yar").write_text(
        'rule Ours : secret { meta: severity = "low" title = "ours"'
        " strings: $ = /SEA-[0-9]{20}/ condition: any of them }"
        ' rule Big { meta: description = "text" strings: $ = "sea monster" condition: any of them }'
    )
    rules = compile_rules(tmp_path)
    assert rules.digest != compile_rules().digest
    search = ContentSearch(Engine(rules), rules.digest)
    things = looked_at(
        search, "etc/x", b"SEA-01234567899876543210 and a sea monster and " + planted.eicar().encode()
    )
    assert {(thing.rule, thing.kind, thing.severity, thing.evidence) for thing in things} == {
        ("Ours", "secret", "low", "SEA-…10 (24 characters)"),
        ("Big", "malware", "high", "sea monster"),
        ("ST-MALWARE-EICAR", "malware", "critical", planted.eicar()),
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("rule a { strings: $a = /(/ condition: $a }", "bad.yar:1:25"),
        ("rule a { condition: nonsense }", "unknown identifier `nonsense`"),
        ('include "/etc/passwd" rule a { condition: true }', "include"),
        ('rule a { meta: severity = "huge" condition: true }', "severity is 'huge', but one of unknown,"),
        ('rule a { meta: check = "mine" condition: true }', "check is 'mine', but one of random,"),
    ],
)  # fmt: skip
def test_wrong_rules_of_an_operator_are_refused(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "bad.yar").write_text(source)
    with pytest.raises(RulesError) as raised:
        compile_rules(tmp_path)
    assert message in str(raised.value)


def test_a_folder_without_rules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="no file"):
        compile_rules(tmp_path)
    with pytest.raises(RulesError, match="cannot be read"):
        compile_rules(tmp_path / "missing")
    (tmp_path / "a.yar").write_bytes(b"\xff")
    with pytest.raises(RulesError, match=r"a\.yar"):
        compile_rules(tmp_path)
