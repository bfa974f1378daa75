"""htpasswd files, line by line."""

from __future__ import annotations

import pytest

from registry.auth.htpasswd import MAX_LINES, Refused, parse_htpasswd
from registry.errors import RequestInvalidError

BCRYPT = "$2y$05$" + "a" * 53


def reasons(text: str) -> list[tuple[int, str]]:
    """Lines that are refused, and why."""
    return [(each.line, each.reason) for each in parse_htpasswd(text)[1]]


def test_bcrypt_is_taken() -> None:
    text = (
        f"# users\n\nanna:{BCRYPT}\n  bert:{BCRYPT.replace('2y', '2b')}\r\ncarl:{BCRYPT.replace('2y', '2a')}"
    )
    found, refused = parse_htpasswd(text)
    assert refused == []
    assert {name: line for name, (line, _) in found.items()} == {"anna": 3, "bert": 4, "carl": 5}
    assert found["anna"][1] == BCRYPT


@pytest.mark.parametrize(
    ("hashed", "why"),
    [
        ("$apr1$abcdefgh$0123456789012345678901", "MD5 (apr1)"),
        ("$1$abcdefgh$0123456789012345678901", "MD5"),
        ("{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=", "SHA-1"),
        ("$5$salt$x", "SHA-256"),
        ("$6$salt$x", "SHA-512"),
        ("$2x$05$" + "a" * 53, "2x"),
        ("plain", "unknown kind"),
        ("$argon2id$v=19$m=8,t=1,p=1$YWFhYWFhYWE$YWE", "unknown kind"),
        ("$2y$05$" + "a" * 52, "unknown kind"),
        ("$2y$05$" + "a" * 54, "unknown kind"),
        ("$2y$05$" + "a" * 52 + "!", "unknown kind"),
        ("$2y$31$" + "a" * 53, "cost is 31"),
        ("$2y$03$" + "a" * 53, "cost is 3"),
        ("", "no line of"),
    ],
)
def test_what_is_refused_says_why(hashed: str, why: str) -> None:
    ((line, reason),) = reasons(f"anna:{hashed}")
    assert line == 1
    assert why in reason


def test_names_are_refused_and_not_changed() -> None:
    assert (
        len(reasons(f"Anna:{BCRYPT}\nanna@example.org:{BCRYPT}\noidc:{BCRYPT}\n:{BCRYPT}\nx y:{BCRYPT}")) == 5
    )
    assert reasons(f"anna:{BCRYPT}\nanna:{BCRYPT}") == [(2, "it is in the file twice")]


@pytest.mark.parametrize(
    "line",
    [f"anna {BCRYPT}", BCRYPT, f"{BCRYPT}:anna", f"anna {BCRYPT}:", "{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc="],
)
def test_of_a_line_that_may_begin_with_a_hash_nothing_is_shown(line: str) -> None:
    _, (refused,) = parse_htpasswd(f"\n{line}")
    assert refused == Refused(2, "", "it is no line of NAME:HASH")


def test_a_file_is_taken_in_parts() -> None:
    with pytest.raises(RequestInvalidError):
        parse_htpasswd("\n" * (MAX_LINES + 1))
