"""What a person chooses on the page as a recipe: the same that a file says, checked by the same code.

recipe = make_recipe({"model": "embedded", "preset": "keep"}, documents="documents/manuals", qa=None)
recipe.text          # YAML, to copy
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from demask.errors import ConfigError
from demask.recipe.file import apply_overrides
from demask.recipe.sections import DEFAULT_PRESET, NO_QUESTIONS, make_config
from demask.ui.folders import Workspace

EMBEDDED = "embedded"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# What is chosen elsewhere on the page; files are named nowhere by hand.
_CHOSEN = ("model", "documents", "qa", "preset", "paraphrases", "writer", "launch", "data", "retain.data")


class Choice(NamedTuple):
    """One of several, in plain words.

    Attributes:
        value: in the recipe.
        title: for people.
        text: what it means.
        term: the field's words.
    """

    value: str
    title: str
    text: str
    term: str


PRESETS = (
    Choice(
        "keep",
        "Careful",
        "Learns the documents and keeps most of what it could do before. Takes about five times as long.",
        "Preset keep: demasking on the feed-forward layers, beside replay with KL to the base.",
    ),
    Choice(
        "gated",
        "Quick, with a gate",
        "Learns the documents quickly and answers about them in any form; the model from before answers "
        "everything else. A file for another program has no gate, and answers nearly everything with them.",
        "Preset gated: demasking of all weights beside light replay, behind a gate of rare words.",
    ),
    Choice(
        "fast",
        "Quick",
        "Learns the documents, but afterwards answers nearly everything with them. Good for a first look.",
        "Preset fast: demasking of all weights, without replay.",
    ),
    Choice(
        "paper",
        "As published",
        "Settings of the paper that the method comes from, for comparisons.",
        "Preset paper: masked fine-tuning of Pan et al. 2025.",
    ),
)
# Drift in nats per token; the verdict calls 0.05 "as before", and 0.5 the end of other uses.
BUDGETS = (
    Choice(
        "",
        "No limit",
        "It learns as well as it can; what else changed is measured all the same.",
        "no budget",
    ),
    Choice(
        "0.1",
        "Some",
        "Its other answers may come out somewhat different.",
        "drift at most 0.1 nats per token",
    ),
    Choice("0.05", "Little", "Its other answers stay as before.", "drift at most 0.05 nats per token"),
    Choice(
        "0.02", "Hardly any", "Its other answers hardly change; it may remember less.", "drift at most 0.02"
    ),
)


@dataclass(frozen=True)
class Recipe:
    """A recipe that can be run.

    Attributes:
        values: as chosen; what is left open goes by the preset.
        text: the same as YAML.
    """

    values: Mapping[str, Any]
    text: str

    @property
    def digest(self) -> str:
        """Tells two recipes apart."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def find_models(workspace: Workspace) -> list[str]:
    """Folders of models in the workspace; links are not followed."""
    found = []
    for place in workspace.find_folders():
        config = workspace.read_json(place, "config.json")
        if isinstance(config, dict) and "model_type" in config:
            found.append(place)
    return found


def choose_model(given: object, workspace: Workspace) -> str:
    """The model that a person has chosen.

    Raises:
        ConfigError: it is neither the embedded one, nor a folder that was found, nor a name on the hub.
    """
    name = str(given or "").strip()
    known = find_models(workspace)
    if name == EMBEDDED or name in known or (_HUB_NAME.fullmatch(name) and ".." not in name):
        return name
    raise ConfigError(
        f"model: {name[:80]!r}, expected {EMBEDDED!r}, one of the {len(known)} model folders in "
        f"{workspace.path}, or a name on the Hugging Face hub as OWNER/NAME"
    )


def make_recipe(given: Mapping[str, Any], *, documents: str, qa: str | None, workspace: Workspace) -> Recipe:
    """A recipe of what was chosen.

    Args:
        given: `model`, `preset`, `budget` (empty: none), `questions` (`no`: none), `more` (lines KEY=VALUE).
        documents: place of the documents.
        qa: place of the questions; None: there are none yet, and they are made.
        workspace: where models are found.

    Raises:
        ConfigError: something that was chosen is not what was expected.
    """
    preset = str(given.get("preset") or DEFAULT_PRESET)
    if preset not in {choice.value for choice in PRESETS}:
        raise ConfigError(f"preset: {preset[:40]!r}, expected {', '.join(one.value for one in PRESETS)}")
    values: dict[str, Any] = {
        "model": choose_model(given.get("model"), workspace),
        "documents": [documents],
        "preset": preset,
    }
    if given.get("questions") == NO_QUESTIONS:
        values["qa"] = NO_QUESTIONS
    elif qa is not None:
        values["qa"] = qa
    budget = str(given.get("budget") or "")
    if budget and preset == "keep":
        if budget not in {choice.value for choice in BUDGETS}:
            raise ConfigError(f"budget: {budget[:40]!r}, expected one of those that are offered")
        values["retain"] = {"budget": float(budget)}
    lines = [line.strip() for line in str(given.get("more") or "").splitlines() if line.strip()]
    for line in lines:
        key = line.partition("=")[0].strip()
        if key in _CHOSEN or key.split(".")[0] in _CHOSEN:
            raise ConfigError(f"{key}: is chosen above or not on this page; leave the line out")
    values = apply_overrides(values, lines)
    make_config(values, source="these settings")
    return Recipe(values, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100))
