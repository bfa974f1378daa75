"""The same place to run in as the hostile suite has."""

from tests.hostile.conftest import port, supervisors

__all__ = ["port", "supervisors"]
