"""The checker of limits finds what it should, and nothing in our own code."""

import importlib.util
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def load_checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_sizes", ROOT / "scripts" / "check_sizes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


checker = load_checker()


def check(folder: Path, source: str, *, name: str = "masks.py") -> list[str]:
    path = folder / "src" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return [f"{v.line} {v.name}: {v.what}" for v in checker.check_file(path)]


def function(lines: list[str], *, docstring: str = "") -> str:
    return "\n    ".join(["def draw():", f'"""One.\n\n{docstring}"""', *lines]) + "\n"


def test_our_own_code_keeps_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert [
        str(v) for file in checker.find_files(list(checker.PLACES)) for v in checker.check_file(file)
    ] == []
    assert checker.check_recipe(checker.SOURCE) == []


def test_a_violation_is_one_line_with_path_line_and_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "long.py"
    path.write_text(function(["pass  #", *["# on"] * 70, "pass"]))
    assert checker.main([str(path)]) == 1
    assert capsys.readouterr().out == f"{path}:1 draw: 72 lines, limit 60\n"


def test_signature_and_docstring_do_not_count_as_body(tmp_path: Path) -> None:
    assert check(tmp_path, function(["pass", *["# on"] * 58, "pass"], docstring="so\n" * 50)) == []
    assert check(tmp_path, function(["pass", *["# on"] * 59, "pass"])) == ["1 draw: 61 lines, limit 60"]


def test_statements_inside_statements_count(tmp_path: Path) -> None:
    assert check(tmp_path, function(["if a: b; c"] * 13 + ["d"])) == []
    assert check(tmp_path, function(["if a: b; c"] * 13 + ["d"] * 2)) == ["1 draw: 41 statements, limit 40"]


def test_elif_is_no_deeper_and_a_fourth_block_is_too_deep(tmp_path: Path) -> None:
    chain = ["if a: pass"] + ["elif b: pass"] * 4 + ["else: pass"]
    assert check(tmp_path, function(chain)) == []
    deep = ["for a in b:", " while c:", "  with d:", "   if e: pass"]
    assert check(tmp_path, function(deep)) == ["1 draw: 4 blocks deep, limit 3"]
    assert check(tmp_path, function([*deep[:3], "   pass"])) == []


def test_self_is_not_counted_as_argument(tmp_path: Path) -> None:
    seven = "a, b, c, /, d, *e, f, **g"
    assert check(tmp_path, f"class C:\n    def m(self, {seven}): ...") == []
    assert check(tmp_path, f"def m(it, {seven}): ...") == ["1 m: 8 arguments, limit 7"]


def test_a_long_module_is_found(tmp_path: Path) -> None:
    assert check(tmp_path, "pass\n" * 700) == []
    assert check(tmp_path, "pass\n" * 701) == ["1 masks: 701 lines, limit 700"]


def write_recipe(folder: Path, *, objective_keys: int) -> Path:
    """Two kinds of recipe with a shared section, and objectives of which the second refines the first."""
    sections = """
        class Train(Section):
            kind: ClassVar[int] = 1
            steps: int = 1
        class SftTrain(Train):
            steps: int = 2
        class RunConfig(Section):
            model: str
            train: Train = Field(default_factory=Train)
        class SftConfig(Section):
            model: str
            _own: int
            train: SftTrain = Field(default_factory=SftTrain)
        class Record:
            none: int
    """
    keys = "".join(f"    f{number}: int = 0\n" for number in range(objective_keys))
    objectives = f"class Objective(Section):\n    name: str\nclass Toy(Objective):\n    name: str\n{keys}"
    for place, source in (("recipe", textwrap.dedent(sections)), ("objectives", objectives)):
        (folder / place).mkdir()
        (folder / place / "all.py").write_text(source)
    return folder


def test_recipe_keys_of_all_kinds_count_together_and_what_they_share_once(tmp_path: Path) -> None:
    assert checker.check_recipe(write_recipe(tmp_path, objective_keys=87)) == []  # and model, steps, name


def test_a_recipe_with_too_many_keys_is_found(tmp_path: Path) -> None:
    (violation,) = checker.check_recipe(write_recipe(tmp_path, objective_keys=88))
    assert str(violation) == f"{tmp_path}:1 recipe: 91 keys, limit 90"


@pytest.mark.parametrize(
    "source",
    [
        "try: pass\nexcept: pass",
        "try: pass\nexcept Exception: pass",
        "try: pass\nexcept (OSError, BaseException): pass",
        "print(1)",
        "from os import *",
        "def f(a=[]): ...",
        "def f(*, a=dict()): ...",
        "raise NotImplementedError",
        "raise NotImplementedError()",
    ],
)
def test_what_must_not_be_written_is_found(tmp_path: Path, source: str) -> None:
    assert len(check(tmp_path, source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "try: pass\nexcept OSError: pass",
        "console.print(1)",
        "from os import path",
        "def f(a=(), b=None): ...",
        "raise NotImplementedError('no varlen attention on CPU; use cuda')",
    ],
)
def test_what_may_be_written_is_not_found(tmp_path: Path, source: str) -> None:
    assert check(tmp_path, source) == []


def test_the_command_line_may_catch_everything_and_print(tmp_path: Path) -> None:
    assert check(tmp_path, "try: print(1)\nexcept Exception: pass", name="cli.py") == []


@pytest.mark.parametrize("name", ["utils.py", "core/__init__.py", "helpers.py"])
def test_modules_without_a_noun_are_found(tmp_path: Path, name: str) -> None:
    assert len(check(tmp_path, "", name=name)) == 1
