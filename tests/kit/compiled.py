"""Statements are compiled once for all registries of a test process.

An engine keeps what it has compiled, and each registry has an engine of its own: a test of one second would
spend a third of it compiling what a registry that has served for a minute has compiled long ago.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from sqlalchemy.util import LRUCache

from registry.db import engine

_KEPT = 2000


class CompiledOnce(LRUCache[Any, Any]):
    """What SQLAlchemy takes as ``compiled_cache``. Its keys begin with the dialect, of which each engine has
    an object: all engines of a registry make theirs of the same options and for the same server."""

    def get(self, key: Any, default: Any = None) -> Any:
        """What was compiled for any engine of that kind."""
        return super().get(_kind(key), default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_kind(key), value)


def _kind(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return (type(key[0]), *key[1:])


def compile_once(patch: pytest.MonkeyPatch) -> CompiledOnce:
    """Have all databases opened from now on share what they compile, which is given."""
    compiled = CompiledOnce(_KEPT)
    for name in ("create_engine", "create_async_engine"):
        patch.setattr(engine, name, _sharing(getattr(engine, name), compiled))
    return compiled


def _sharing(make: Callable[..., Any], compiled: CompiledOnce) -> Callable[..., Any]:
    @wraps(make)
    def made(*arguments: Any, **options: Any) -> Any:
        result = make(*arguments, **options)
        getattr(result, "sync_engine", result).update_execution_options(compiled_cache=compiled)
        return result

    return made
