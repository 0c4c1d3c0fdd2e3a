"""The quick tier of the tests looks into every room of the house."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "demask"
# What each of them does shows wherever it is used.
FOUNDATIONS = {"environment", "errors", "section", "text_encoding"}


def test_every_room_and_every_module_of_the_ground_floor_is_looked_into() -> None:
    """Each is named by a file of tests, one of which at least is in the tier."""
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    rooms |= {path.stem for path in SOURCE.glob("[a-z]*.py")} - FOUNDATIONS
    texts = [path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py") if path != Path(__file__)]
    seen = {
        name
        for text in texts
        if "mark.smoke" in text
        for found in re.findall(r"demask\.(\w+)|from demask import ([\w, ]+)", text)
        for name in re.findall(r"\w+", " ".join(found))
    }
    assert sorted(rooms - seen) == []
