"""What an error looks like on the wire, for clients that read little of it."""

from __future__ import annotations

import json

import pytest

from registry.errors import DeniedError, StorageFullError, TooManyRequestsError, UnavailableError
from registry.http.errors import RETRY_AFTER_SECONDS, render_error


@pytest.mark.parametrize("path", ["/v2/team/app/manifests/1", "/token"])
def test_the_status_line_says_what_the_body_says(path: str) -> None:
    response = render_error(path, DeniedError("bob has no push right on team/app"), "id")
    assert response.reason == "Forbidden: bob has no push right on team/app"
    assert json.loads(response.body)["errors"][0]["message"] == "bob has no push right on team/app"
    assert (
        render_error(path, StorageFullError("it is full"), "id").reason == "Insufficient Storage: it is full"
    )


def test_nothing_of_a_message_is_more_than_text_in_the_status_line() -> None:
    error = DeniedError("a\r\nSet-Cookie: x\x00\x7f\N{SHIP}" + "y" * 1000)
    reason = render_error("/v2/", error, "id").reason
    assert reason.startswith("Forbidden: a  Set-Cookie: x   y")
    assert len(reason) == 500


def test_problem_documents_keep_the_usual_one() -> None:
    assert render_error("/api/v1/users", DeniedError("no"), "id").reason == "Forbidden"


@pytest.mark.parametrize("path", ["/v2/", "/api/v1/users"])
def test_who_may_come_back_is_told_when(path: str) -> None:
    for kind in (UnavailableError, TooManyRequestsError):
        assert render_error(path, kind("wait"), "id").headers["Retry-After"] == RETRY_AFTER_SECONDS
        said = kind("wait", headers={"Retry-After": "60"})
        assert render_error(path, said, "id").headers["Retry-After"] == "60"
    assert "Retry-After" not in render_error(path, DeniedError("no"), "id").headers
