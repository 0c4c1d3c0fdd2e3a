"""Values of a recipe checked against its sections, and one line that says what is wrong with them.

config = check_values(RunConfig, values, source="recipe.yaml")
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from demask.errors import ConfigError
from demask.section import Section

S = TypeVar("S", bound=Section)

_NONE: Mapping[str, str] = MappingProxyType({})


def check_values(
    kind: type[S],
    values: Mapping[str, Any],
    *,
    source: str,
    required: Mapping[str, str] = _NONE,
    former: Mapping[str, str] = _NONE,
    also: Sequence[str] = (),
) -> S:
    """The values as a section.

    Args:
        kind: the class of the section.
        values: as in a recipe.
        source: names the recipe in errors.
        required: what was expected of keys that are missing or empty.
        former: keys of earlier releases, as `section.key`, and what says the same now.
        also: keys that the recipe may have besides, which were taken out of the values before.

    Raises:
        ConfigError: the first unknown key, missing key or wrong value, with what was expected.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error, kind, required, former, also)}") from error


def _explain(
    error: ValidationError,
    kind: type[Section],
    required: Mapping[str, str],
    former: Mapping[str, str],
    also: Sequence[str],
) -> str:
    """The first problem in our words."""
    # Unknown keys first: a misspelt key also makes a required one missing.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    whole = [str(part) for part in problem["loc"]]
    *sections, name = whole if whole else [""]
    section, tags = _find_section(kind, sections)
    place = [part for number, part in enumerate(whole) if number not in tags]
    key = ".".join(place)
    match problem["type"]:
        case "extra_forbidden":
            hint = former.get(".".join(whole[-2:]))
            if hint:
                return f"unknown key {key}: {hint}"
            known = sorted([*section.model_fields, *(also if section is kind else ())])
            near = difflib.get_close_matches(name, known, n=1)
            return f"unknown key {key}: " + (
                f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
            )
        case "missing":
            return f"{key} is missing; {required.get(key, 'it has no default')}"
        case "union_tag_invalid" | "union_tag_not_found":
            given = problem["input"]
            given = given.get("name") if isinstance(given, dict) else given
            names = sorted(_by_tag(section, name))
            return f"{key} is {given!r}, expected one of {', '.join(names)}"
        case "too_short":
            return f"{key} is empty; {required.get(key, 'expected at least one value')}"
        case "value_error":
            return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
        case _:
            wanted = re.sub(r"^Input should be (a |an )?(valid )?", "", problem["msg"])
            wanted = re.sub(r" or instance of \w+", "", wanted.replace("tuple", "list"))
            return f"{key} is {problem['input']!r}, expected {wanted}"


def _find_section(kind: type[Section], path: Sequence[str]) -> tuple[type[Section], set[int]]:
    """The section that a path of keys leads to, and which parts of the path are tags, not keys."""
    section, choices, tags = kind, dict[str, type[Section]](), set[int]()
    for number, part in enumerate(path):
        if part in choices:
            tags.add(number)
            section, choices = choices[part], {}
            continue
        choices = _by_tag(section, part)
        inner = next(_sections_of(section, part), None)
        section = inner if inner is not None and not choices else section
    return section, tags


def _by_tag(section: type[Section], key: str) -> dict[str, type[Section]]:
    """The sections that may stand at a key, where there are several, by the name that chooses one."""
    kinds = list(_sections_of(section, key))
    return {kind.model_fields["name"].default: kind for kind in kinds} if len(kinds) > 1 else {}


def _sections_of(section: type[Section], key: str) -> Iterator[type[Section]]:
    field = section.model_fields.get(key)
    if field is None:
        return
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            yield kind
