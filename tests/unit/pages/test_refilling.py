"""A page with a refused form is drawn again as it was sent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from registry.pages.refilling import SECRETS, Refused, find_refused

TEMPLATES = Path(__file__).parents[3] / "registry" / "pages" / "templates"
PAGE = """<!doctype html>
<title>Settings</title>
<body><main id="main" tabindex="-1">
<form method="get" action="/set"><input name="words" value="searched"></form>
<table><tr><td><form method="post" action="/take">
<input type="hidden" name="who" value="alice"><button>x</button></form>
<form method="post" action="/take"><input type="hidden" name="who" value="bob"><button>y</button></form>
</td></tr></table>
<details><summary>more</summary>
<form class="card" method="post" action="/set">
<input type="hidden" name="on" value="team/app"><input type="hidden" name="seen" value="now">
<label for="w">Words &amp; all</label>
<input id="w" name="words" value="stands &quot;here&quot;" required aria-describedby="w-hint">
<fieldset><legend>Rule 1</legend>
<label>Days <input name="days" value="7"></label>
<label for="kind">Kind</label>
<select id="kind" name="kind"><option value="">none</option><option value="a" selected>an A</option>
<option value="b">a B</option></select>
</fieldset>
<label><input type="checkbox" name="scan" value="yes" checked> Scanned</label>
<textarea id="t" name="long" rows="3">
two
lines</textarea>
<input type="password" name="secret">
<button>set</button><button formaction="/look" formmethod="get">look</button>
</form></details>
</main>
"""
SENT = {
    "on": "team/app",
    "seen": "then",
    "words": '<i>"typed"</i>',
    "days": "",
    "kind": "b",
    "long": "\nmore </textarea>\n",
    "secret": "hunter2",
}


def refused(fields: dict[str, str], path: str = "/set", method: str = "POST") -> Refused:
    found = find_refused(PAGE, path, method, fields)
    assert found is not None
    return found


def filled(fields: dict[str, str], *, is_changed: bool = False, path: str = "/set") -> str:
    one = refused(fields, path)
    return one.filled(title="Not done: ", alert="<p>why</p>", wrong=["words"], is_changed=is_changed)


def test_what_was_typed_stands_in_its_fields_and_nothing_else_changed() -> None:
    page = filled(SENT)
    assert "<title>Not done: Settings</title>" in page
    assert '<input name="words" value="searched">' in page
    assert 'name="words" value="&#60;i&#62;&#34;typed&#34;&#60;/i&#62;" required' in page
    assert 'aria-describedby="refused w-hint" aria-invalid="true"' in page
    assert '<input name="days" value="">' in page
    assert '<option value="b" selected>' in page
    assert '<option value="a">' in page
    assert '<input type="checkbox" name="scan" value="yes">' in page
    assert ">\n\nmore &#60;/textarea&#62;\n</textarea>" in page
    assert "<details open><summary>" in page
    assert '<form class="card" method="post" action="/set"><p>why</p>' in page
    assert page.count("<p>why</p>") == 1


def test_a_secret_is_not_sent_back() -> None:
    assert "hunter2" not in filled(SENT)


def test_what_was_seen_is_seen_anew_by_whoever_is_told_what_stands() -> None:
    assert refused(SENT).is_stale
    assert 'name="seen" value="then"' in filled(SENT)
    assert 'name="seen" value="now"' in filled(SENT, is_changed=True)
    assert not refused(SENT | {"seen": "now"}).is_stale


def test_what_stands_instead_is_told_by_the_labels() -> None:
    assert list(refused(SENT).differing()) == [
        ("Words & all", 'stands "here"'),
        ("Rule 1: Days", "7"),
        ("Rule 1: Kind", "an A"),
        ("Scanned", "yes"),
        ("long", "two\nlines"),
    ]


def test_of_several_it_is_the_one_with_the_hidden_fields_that_were_sent() -> None:
    page = filled({"who": "bob"}, path="/take")
    # In a table is no room: the sentence stands first.
    assert '<main id="main" tabindex="-1"><p>why</p>' in page
    assert find_refused(PAGE, "/take", "POST", {"who": "carol"}) is None


@pytest.mark.parametrize(("path", "method"), [("/set", "GET"), ("/look", "GET")])
def test_a_way_to_send_it_is_a_path_and_a_method(path: str, method: str) -> None:
    fields = SENT if path == "/look" else {"words": "x"}
    assert bool(refused(fields, path, method).form.closed) == (path == "/look")
    assert find_refused(PAGE, "/look", "POST", SENT) is None


def test_all_fields_for_passwords_are_known() -> None:
    found = {
        name
        for path in TEMPLATES.glob("*.html")
        for tag in re.findall("<(?:input|textarea)[^>]*>", path.read_text())
        if 'type="password"' in tag or (tag.startswith("<textarea") and 'autocomplete="off"' in tag)
        for name in re.findall(r' name="([^"]+)"', tag)
    }
    assert found == SECRETS
