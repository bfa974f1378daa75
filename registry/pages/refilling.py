"""A page on which a form stands that was refused, filled in again as it was sent.

It works on the page as it was drawn: so every form is kept in the same way, and no page has to think of it.
Passwords are never filled in, also not those in addresses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote

from registry.pages.rendering import whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SEEN = "seen"
"""What the name of a hidden field begins with that says of what the form was drawn. Who is told that it
changed has seen what stands now; after any other refusal he has not."""
SECRETS = frozenset({"client_secret", "htpasswd", "new", "old", "password", "secret", "token", "value"})
"""Fields for passwords and other secrets, which no browser is to remember; a test holds that there is no
other."""
_USER = re.compile(
    r"""
    \A (\s* (?: https?: [/\\]* | [a-z][a-z0-9+.-]*: [/\\]+ ))
    (?: [^/\\?#\n]* @                     # where it belongs
      | [^/\\?#\n]* : [^/\\?#\n]*[^0-9/\\?#\n][^\n]* @)  # of a password that should have been quoted
    """,
    re.IGNORECASE | re.VERBOSE,
)
_UNTYPED = ("hidden", "submit", "button", "password", "file")
_CHECKED = ("checkbox", "radio")


@dataclass(slots=True)
class Option:
    """One choice of a list."""

    start: int
    end: int
    attributes: dict[str, str | None]
    words: str = ""


@dataclass(slots=True)
class Control:
    """A field of a form, where its tag is in the page, and what stands in it there."""

    tag: str
    start: int
    end: int
    attributes: dict[str, str | None]
    legend: str = ""
    label: str = ""
    inner_end: int = 0
    words: str = ""
    options: list[Option] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Which kind of input. A secret of several lines is one that no browser is to remember."""
        if self.tag == "textarea" and self.attributes.get("autocomplete") == "off":
            return "password"
        return self.attributes.get("type") or "text" if self.tag == "input" else self.tag

    @property
    def name(self) -> str:
        """Its name; empty: it is not sent."""
        return self.attributes.get("name") or ""

    @property
    def is_seen(self) -> bool:
        """Whether it says of what the form was drawn."""
        return self.kind == "hidden" and self.name.startswith(SEEN)

    @property
    def value(self) -> str:
        """What would be sent of it; for what is not checked, nothing."""
        if self.tag == "select":
            chosen = [one for one in self.options if "selected" in one.attributes] or self.options[:1]
            return chosen[0].attributes.get("value") or "" if chosen else ""
        if self.tag == "textarea":
            return self.words.removeprefix("\n")
        if self.kind in _CHECKED and "checked" not in self.attributes:
            return ""
        return self.attributes.get("value") or ""

    @property
    def shown(self) -> str:
        """What people see in it."""
        if self.tag == "select":
            of_value = [
                one.words.strip() for one in self.options if one.attributes.get("value") == self.value
            ]
            return of_value[0] if of_value else ""
        return self.value


@dataclass(slots=True)
class Form:
    """A form, where its start tag ends, and what of the page is closed around it."""

    end: int
    attributes: dict[str, str | None]
    closed: list[Control]
    controls: list[Control] = field(default_factory=list)

    @property
    def typed(self) -> list[Control]:
        """The fields that somebody fills in."""
        return [one for one in self.controls if one.name and one.kind not in _UNTYPED and one.tag != "button"]

    def is_sent_to(self, path: str, method: str) -> bool:
        """Whether the form, or one of its buttons, is sent there so."""
        own_path, own_method = self.attributes.get("action") or "", self.attributes.get("method") or "get"
        ways = [(own_path, own_method)]
        ways += [
            (one.attributes.get("formaction") or own_path, one.attributes.get("formmethod") or own_method)
            for one in self.controls
            if one.tag == "button"
        ]
        return any(unquote(to) == path and by.upper() == method for to, by in ways)


class _Reader(HTMLParser):
    """Finds the forms of a page, its labels, and where its title and its main part begin."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.title_at = self.main_at = 0
        self._lines = [0]
        for line in page.split("\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)
        self._details: list[Control] = []
        self._form: Form | None = None
        self._control: Control | None = None
        self._labels: dict[str, str] = {}
        self._label: str | None = None
        self._label_of: str | None = None
        self._labelled: list[Control] = []
        self._legend = ""
        self._is_legend = False
        self.feed(page)
        self.close()
        for form in self.forms:
            for one in form.controls:
                one.label = one.label or self._labels.get(one.attributes.get("id") or "", "")

    def _at(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        start, given = self._at(), dict(attrs)
        end = start + len(self.get_starttag_text() or "")
        if tag == "title":
            self.title_at = self.title_at or end
        elif tag == "main":
            self.main_at = end
        elif tag == "details":
            self._details.append(Control(tag, start, end, given))
        elif tag == "form":
            self._form = Form(end, given, list(self._details))
            self.forms.append(self._form)
        elif tag == "label":
            self._label, self._label_of, self._labelled = "", given.get("for"), []
        elif tag == "legend":
            self._legend, self._is_legend = "", True
        elif tag == "option" and self._control is not None:
            self._control.options.append(Option(start, end, given))
        elif tag in ("input", "select", "textarea", "button") and self._form is not None:
            made = Control(tag, start, end, given, self._legend.strip())
            self._form.controls.append(made)
            self._control = made if tag in ("select", "textarea") else None
            if self._label is not None:
                self._labelled.append(made)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("select", "textarea"):
            if self._control is not None:
                self._control.inner_end = self._at()
            self._control = None
        elif tag == "details" and self._details:
            self._details.pop()
        elif tag == "form":
            self._form = None
        elif tag == "label" and self._label is not None:
            words = " ".join(self._label.split())
            if self._label_of:
                self._labels[self._label_of] = words
            for one in self._labelled:
                one.label = words
            self._label = None
        elif tag == "legend":
            self._is_legend = False
        elif tag == "fieldset":
            self._legend = ""

    def handle_data(self, data: str) -> None:
        if self._control is not None:
            if self._control.options:
                self._control.options[-1].words += data
            else:
                self._control.words += data
        elif self._is_legend:
            self._legend += data
        elif self._label is not None:
            self._label += data


@dataclass(frozen=True, slots=True)
class Refused:
    """A form of a page that was refused, and what was sent of it."""

    page: str
    title_at: int
    main_at: int
    form: Form
    fields: Mapping[str, str]

    @property
    def is_stale(self) -> bool:
        """Whether it was drawn of something else than stands now."""
        return any(
            one.is_seen and self.fields.get(one.name) not in (None, one.value) for one in self.form.controls
        )

    def differing(self) -> Iterator[tuple[str, str]]:
        """What now stands in fields in which something else was typed: what each is called, and that."""
        for one in self.form.typed:
            if one.value != self.fields.get(one.name, ""):
                yield ": ".join(filter(None, (one.legend, one.label or one.name))), one.shown

    def filled(self, *, title: str, alert: str, wrong: Sequence[str], is_changed: bool) -> str:
        """The page as it was sent: ``title`` before its own, ``alert`` with the form, and fields that are
        ``wrong`` marked. ``is_changed``: what stands now is told by the alert, and counts as seen."""
        edits: list[tuple[int, int, str]] = [(self.title_at, self.title_at, title)]
        # A button in a table has no room for a sentence.
        begins = self.form.end if self.form.typed else self.main_at
        edits.append((begins, begins, alert))
        edits += [
            (one.start, one.end, _tag(one.tag, one.attributes | {"open": None})) for one in self.form.closed
        ]
        for one in self.form.controls:
            edits += self._edits(one, one.name in wrong, is_changed=is_changed)
        return _edited(self.page, edits)

    def _edits(self, one: Control, is_wrong: bool, *, is_changed: bool) -> Iterator[tuple[int, int, str]]:
        sent, given = self.fields.get(one.name, ""), dict(one.attributes)
        if is_wrong and one.kind not in _UNTYPED:
            told = given.get("aria-describedby")
            given |= {"aria-invalid": "true", "aria-describedby": f"refused {told}" if told else "refused"}
        if one.kind in _CHECKED:
            given.pop("checked", None)
            given |= {"checked": None} if sent == given.get("value") else {}
        elif one.kind == "hidden":
            given |= {"value": sent} if one.is_seen and one.name in self.fields and not is_changed else {}
        elif one.tag == "input" and one.kind not in _UNTYPED:
            given["value"] = without_user(sent)
        elif one.kind == "textarea":
            # A line break right after the tag is not part of the text.
            yield one.end, one.inner_end, f"\n{whole(sent)}"
        elif one.tag == "select" and any(sent == each.attributes.get("value") for each in one.options):
            for option in one.options:
                choice = {name: value for name, value in option.attributes.items() if name != "selected"}
                choice |= {"selected": None} if sent == choice.get("value") else {}
                yield option.start, option.end, _tag("option", choice)
        if given != one.attributes:
            yield one.start, one.end, _tag(one.tag, given)


def without_user(words: str) -> str:
    """What was typed; of an address without its user and password, wherever that began to be one."""
    return _USER.sub(r"\1", words)


def find_refused(page: str, path: str, method: str, fields: Mapping[str, str]) -> Refused | None:
    """The form of a page that was sent to ``path``: of several, that with the hidden fields that were sent;
    ``None``: it does not stand there (any more)."""
    reader = _Reader(page)
    for form in reader.forms:
        hidden = [one for one in form.controls if one.kind == "hidden" and not one.is_seen]
        if form.is_sent_to(path, method) and all(
            one.value == fields.get(one.name, "").replace("\r\n", "\n") for one in hidden
        ):
            return Refused(page, reader.title_at, reader.main_at, form, fields)
    return None


def _tag(tag: str, attributes: Mapping[str, str | None]) -> str:
    written = (name if value is None else f'{name}="{whole(value)}"' for name, value in attributes.items())
    return f"<{' '.join((tag, *written))}>"


def _edited(page: str, edits: list[tuple[int, int, str]]) -> str:
    parts, at = [], 0
    for start, end, words in sorted(edits, key=lambda edit: edit[:2]):
        parts += [page[at:start], words]
        at = end
    return "".join((*parts, page[at:]))
