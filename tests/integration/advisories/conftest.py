"""Tests on real records are there where the records are: ``SEATRIAL_TEST_ADVISORIES=FOLDER``."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("SEATRIAL_TEST_ADVISORIES") else ["test_real_records.py"]
