"""What a database tells of an error, without the row that it was about.

PostgreSQL ends the message of a broken constraint with "Failing row contains (...)" or "Key (name)=(...)",
and rows hold hashes of secrets. Whoever logs an exception logs its message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine, ExceptionContext


def keep_rows_out_of_errors(engine: Engine) -> None:
    """Leave of each error of PostgreSQL its first sentence and the name of the constraint."""
    event.listen(engine, "handle_error", _shorten)


def _shorten(context: ExceptionContext) -> None:
    cause: Any = context.original_exception
    diagnosis = getattr(cause, "diag", None)
    if diagnosis is None or diagnosis.message_primary is None:
        return  # SQLite, which names columns only; or there was no connection, and no row
    told = diagnosis.message_primary
    if diagnosis.constraint_name:
        told = f"{told} [{diagnosis.constraint_name}]"
    cause.args = (told,)
    if isinstance(context.sqlalchemy_exception, DBAPIError):
        # It was put together from the driver's message before.
        kind = type(cause)
        context.sqlalchemy_exception.args = (f"({kind.__module__}.{kind.__name__}) {told}",)
