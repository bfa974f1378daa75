"""The names of formats: a command needs them to say what it can, and nothing else."""

from __future__ import annotations

from typing import Literal

Format = Literal["table", "json", "sarif", "cyclonedx", "spdx", "openvex"]
