"""Check the limits of the style guide that no other tool checks.

    python scripts/check_sizes.py              # src, scripts and perf
    python scripts/check_sizes.py src/demask/cli.py

Prints one line per violation, `path:line name: 72 lines, limit 60`, and exits 1 when there is one.
A function's body is counted without its signature and its docstring.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

# A module is one concept, whatever its length; beyond this it is probably two.
MODULE_LINES = 700
BODY_LINES = 60
STATEMENTS = 40
NESTING = 3
ARGUMENTS = 7
# Of recipes of all kinds together; a section that several share counts once.
RECIPE_KEYS = 90
RECIPE_PLACES = ("recipe", "objectives")
TASKS = frozenset({"RunConfig", "SftConfig"})

# A function without a home shows that a noun is missing.
HOMELESS_NAMES = frozenset({"base", "common", "core", "helper", "helpers", "misc", "util", "utils"})
CATCH_ALL = frozenset({"Exception", "BaseException"})
PLACES = ("src", "scripts", "perf")
SOURCE = Path("src/demask")

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTABLE_CALLS = frozenset({"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter"})


class Violation(NamedTuple):
    """One line of the report."""

    path: Path
    line: int
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.name}: {self.what}"


def over(count: int, limit: int, unit: str) -> list[str]:
    """What to say about a count: nothing, or how far it is from its limit."""
    return [f"{count} {unit}, limit {limit}"] if count > limit else []


def body_without_docstring(function: Function) -> list[ast.stmt]:
    """The statements that do something."""
    return function.body[1:] if ast.get_docstring(function) is not None else function.body


def count_lines(body: list[ast.stmt]) -> int:
    """Lines from the first statement to the last, blank lines and comments between them included."""
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1 if body else 0


def count_statements(body: list[ast.stmt]) -> int:
    """All statements, those inside other statements included."""
    return sum(isinstance(node, ast.stmt) for statement in body for node in ast.walk(statement))


def measure_nesting(node: ast.AST) -> int:
    """How deep blocks stand in blocks; `elif` is no deeper than its `if`, a function begins anew."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            continue
        is_elif = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        deepest = max(deepest, measure_nesting(child) + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


def count_arguments(function: Function) -> int:
    """Arguments that a caller can give: not `self` and `cls`."""
    a = function.args
    names = [
        argument.arg for argument in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if argument
    ]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def is_command(function: Function) -> bool:
    """Whether the arguments are the options of a command, which are as many as its users need."""
    return any(called_name(decorator) == "command" for decorator in function.decorator_list)


def called_name(node: ast.expr | None) -> str:
    """`list` of `list(...)`, `deque` of `collections.deque(...)`; empty for anything else."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name
        case _:
            return ""


def is_mutable(default: ast.expr | None) -> bool:
    """Whether all calls would share and could change this default."""
    return isinstance(default, MUTABLE) or called_name(default) in MUTABLE_CALLS


def check_function(function: Function) -> list[str]:
    """What is too large or wrong in one function."""
    body = body_without_docstring(function)
    found = over(count_lines(body), BODY_LINES, "lines")
    found += over(count_statements(body), STATEMENTS, "statements")
    found += over(measure_nesting(function), NESTING, "blocks deep")
    if not is_command(function):
        found += over(count_arguments(function), ARGUMENTS, "arguments")
    if any(is_mutable(default) for default in (*function.args.defaults, *function.args.kw_defaults)):
        found.append("mutable default, use None or a tuple")
    return found


def caught_names(handler: ast.ExceptHandler) -> list[str]:
    """The names after `except`; a bare one catches BaseException."""
    if handler.type is None:
        return ["BaseException"]
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return [kind.id for kind in kinds if isinstance(kind, ast.Name)]


def check_node(node: ast.AST, *, catches: bool, prints: bool) -> Iterator[tuple[str, str]]:
    """Name and violation of what must not be written at all."""
    match node:
        case ast.ExceptHandler() if not catches and CATCH_ALL.intersection(caught_names(node)):
            yield "except", "catches everything, name the errors (only cli.py may)"
        case ast.Call(func=ast.Name(id="print")) if not prints:
            yield "print", "not outside cli.py and commands/, return the text"
        case ast.ImportFrom(names=[ast.alias(name="*")]):
            yield f"from {node.module} import *", "star import, name what is used"
        case ast.Raise(exc=ast.Name(id="NotImplementedError")):
            yield "NotImplementedError", "bare, say what is missing and what to do"
        case ast.Raise(exc=ast.Call(func=ast.Name(id="NotImplementedError"), args=[])):
            yield "NotImplementedError", "bare, say what is missing and what to do"


def find_recipe_keys(trees: list[ast.Module]) -> set[str]:
    """Every key of a recipe by its section, as `Train.steps`; sections themselves are none.

    A class counts with the one it refines, so that all objectives are one section, as in a recipe.
    """
    classes = {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return {
        f"{section}.{field.target.id}"
        for name, group in classes.items()
        if not name.startswith("_") and (section := find_section(name, classes))
        for field in group.body
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and not field.target.id.startswith("_")
        and not re.search(r"ClassVar|default_factory=[A-Z]", ast.unparse(field))
    }


def find_section(name: str, classes: dict[str, ast.ClassDef]) -> str:
    """The section of a recipe that a class belongs to; empty where it is none."""
    bases = [ast.unparse(base) for base in classes[name].bases]
    if "Section" in bases:
        return "recipe" if name in TASKS else name
    return next(
        (section for base in bases if base in classes if (section := find_section(base, classes))), ""
    )


def check_recipe(source: Path) -> list[Violation]:
    """Whether recipes have few enough keys, all kinds together."""
    files = [file for place in RECIPE_PLACES for file in sorted((source / place).glob("*.py"))]
    keys = find_recipe_keys([ast.parse(file.read_text(encoding="utf-8")) for file in files])
    return [Violation(source, 1, "recipe", what) for what in over(len(keys), RECIPE_KEYS, "keys")]


def check_module(path: Path, text: str, tree: ast.Module) -> Iterator[Violation]:
    """What is wrong with a module as a whole."""
    name = path.parent.name if path.stem == "__init__" else path.stem
    if name in HOMELESS_NAMES:
        yield Violation(path, 1, name, "says nothing, name the module after what it holds")
    for what in over(len(text.splitlines()), MODULE_LINES, "lines"):
        yield Violation(path, 1, name, what)


def check_file(path: Path) -> list[Violation]:
    """All violations of one file, in the order of its lines."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, filename=str(path))
    found = list(check_module(path, text, tree))
    # Programs that people start by hand print; what is imported does not.
    prints = path.name == "cli.py" or "commands" in path.parts or "src" not in path.parts
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            found += [Violation(path, node.lineno, node.name, what) for what in check_function(node)]
        for name, what in check_node(node, catches=path.name == "cli.py", prints=prints):
            found.append(Violation(path, getattr(node, "lineno", 1), name, what))
    return sorted(found, key=lambda violation: violation.line)


def find_files(places: list[str]) -> list[Path]:
    """Python files of the places that exist."""
    return [
        file
        for place in places
        for file in ([Path(place)] if place.endswith(".py") else sorted(Path(place).rglob("*.py")))
    ]


def main(arguments: list[str]) -> int:
    """Print the violations; 1 when there is one."""
    files = find_files(arguments or list(PLACES))
    violations = [violation for file in files for violation in check_file(file)]
    violations += [] if arguments else check_recipe(SOURCE)
    for violation in violations:
        print(violation)
    print(f"{len(files)} files, {len(violations)} over their limits", file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
