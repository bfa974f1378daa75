"""What sort of file a path is, for rules that look only at some. Pure."""

from __future__ import annotations

import re

from sandbox.scanners.content.engine import Only

CONFIGURATION = "configuration:"
"""Stands before what is no file: a variable, a label, a line of the history."""

_ENDINGS = re.compile(
    r"(^|/)(\.env(\.[a-z]+)?|\.?(bash|zsh|ash)?(rc|_profile|_history)|\.profile|credentials|config|.*\."
    r"(env|ini|cfg|conf|config|ya?ml|json|toml|properties|xml|tfvars|tfstate|sh|bash|envrc|credentials|secrets?))$"
)
_LIBRARIES = re.compile(
    r"(^|/)(site-packages|dist-packages|node_modules|gems|vendor|testdata|go/pkg/mod|usr/local/go|usr/share"
    r"|usr/lib/python[0-9.]*|usr/src|usr/include|\.cargo/registry)/"
)


def is_in_library(path: str) -> bool:
    """Whether others wrote the file: what looks like a secret there is mostly a test or an example."""
    return _LIBRARIES.search(path) is not None


def is_looked_at(path: str, only: Only | None) -> bool:
    """Whether a rule that is for ``only`` such files is for this one."""
    if only is None:
        return True
    if only == "configuration":
        is_configuration = path.startswith(CONFIGURATION) or _ENDINGS.search(path) is not None
        return is_configuration and not is_in_library(path)
    name = path.rpartition("/")[2]
    return name.lstrip("._") == only or (only == "npmrc" and name.endswith(".npmrc"))
