"""A recipe as it stands in a YAML file, and what options change in it; nothing is checked here.

values = apply_overrides(load_recipe("recipe.yaml"), ["train.steps=200"])
config = make_config(values)                                             # config
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from demask.errors import ConfigError
from demask.text_encoding import decode


class _Loader(yaml.SafeLoader):
    """YAML whose keys are words that stand once, and where `1e-4` is a number, as in JSON and Python."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        values = super().construct_mapping(node, deep=deep)
        names = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} stands twice", problem_mark=node.value[-1][0].start_mark
                )
        return values


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z"), list("-+0123456789")
)


def load_recipe(path: str | Path) -> dict[str, Any]:
    """Read a recipe as a mapping; nothing is checked but that it is one.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds something else.
    """
    try:
        values = yaml.load(decode(Path(path).read_bytes()), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path}: recipe cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: recipe is not {error.encoding.upper()} text (byte {error.start})"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: expected keys with values, such as 'model: embedded'")
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Set dotted keys, as in `train.steps=200`; the value is read as YAML.

    Raises:
        ConfigError: an override is not of this form, or goes into something that has no keys.
    """
    changed = dict(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {override!r}: expected KEY=VALUE, as in train.steps=200")
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override!r}: the value is not YAML") from error
        *sections, name = key.split(".")
        inner = changed
        for section in sections:
            below = inner.get(section) or {}
            if section == "objective" and isinstance(below, str):
                below = {"name": below}
            if not isinstance(below, dict):
                raise ConfigError(f"--set {override!r}: {section} has no keys of its own")
            inner[section] = dict(below)
            inner = inner[section]
        inner[name] = value
    return changed


def merge_values(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the changes put over them, section by section."""
    both = {
        key: merge_values(values[key], change)
        if isinstance(change, Mapping) and isinstance(values.get(key), Mapping)
        else change
        for key, change in changes.items()
    }
    return {**values, **both}
