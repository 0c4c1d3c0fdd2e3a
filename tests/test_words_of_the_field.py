"""Our own words for things that the field has a word for do not come back."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "check_words.py"


def run(*places: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, places)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_none_of_them_is_said() -> None:
    done = run()
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The lessons of a run.", "notes.md:1 'lessons': say 'training data'"),
        ("\nIts Seal is read.", "notes.md:2 'Seal': say 'manifest'"),
        ("Two matrix products.", "notes.md:1 'matrix products': say 'matmul'"),
    ],
)
def test_each_is_named_with_its_place_and_what_to_say(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "notes.md").write_text(text)
    done = run(tmp_path)
    assert done.returncode == 1
    assert said in done.stdout


def test_words_that_only_hold_one_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("Storytellers and sealants, an untouched file.")
    assert run(tmp_path).returncode == 0
