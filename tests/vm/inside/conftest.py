"""The same place to run in as the hostile suite has."""

from tests.hostile.conftest import port

__all__ = ["port"]
