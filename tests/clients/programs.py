"""Programs of the machine: a test that lacks one is skipped, or fails where none may be missing."""

import os
import shutil

import pytest

ARE_REQUIRED = os.environ.get("ADIT_REQUIRE_PROGRAMS") == "1"


def find(name):
    """Where a program is, if it is anywhere; Debian keeps servers beside the ordinary path."""
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")


def lacking(what):
    """Skips the test that asks; with ADIT_REQUIRE_PROGRAMS=1 it fails."""
    if ARE_REQUIRED:
        pytest.fail(f"ADIT_REQUIRE_PROGRAMS=1 is set and this machine lacks {what}")
    pytest.skip(f"this machine lacks {what}")
