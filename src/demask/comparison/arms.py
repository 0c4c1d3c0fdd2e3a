"""The rows of the paper's tables: ways to train, and the ablations of one of them.

    arms = choose_arms(None, "name-description")      # all that can run there
    ABLATIONS["ratio"]                                # fixed mask ratios against a drawn one

An arm is what it puts over the recipe that all cells share. Source of the comparison: Pan et al. 2025,
arXiv 2510.09885; the questions that its ablations leave open are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from demask.errors import ConfigError
from demask.objectives.demasking import RANDOM_TOKEN, VARIED
from demask.objectives.masking import RATIO_RANGE
from demask.records import Order


@dataclass(frozen=True)
class Arm:
    """A way to train.

    Attributes:
        name: of a row in tables.
        recipe: put over what all cells share.
        paraphrases: whose order they keep, where other wordings are trained besides.
        rate: by which the default learning rate is multiplied.
        diffusion: whether it trains masked-diffusion models, and no others.
        epochs: by which the passes over the data are multiplied, in fine-tuning.
        tokens_of: another arm, of whose tokens it takes as many; empty: it takes as many steps as all.
        shares: of the exposures that are masked, over equal parts of the run; empty: as the recipe says.
    """

    name: str
    recipe: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    paraphrases: Order | None = None
    rate: float = 1.0
    diffusion: bool = False
    epochs: float = 1.0
    tokens_of: str = ""
    shares: tuple[float, ...] = ()


ARMS = (
    Arm("next-token", {"objective": {"name": "next-token"}}),
    Arm("next-token-raw", {"objective": {"name": "next-token", "question": None}}),
    Arm("next-token-paraphrases", {"objective": {"name": "next-token"}}, paraphrases="same-order"),
    Arm("next-token-permuted", {"objective": {"name": "next-token"}}, paraphrases="reversed"),
    Arm("reverse", {"objective": {"name": "reverse"}}),
    Arm("demasking", {"objective": {"name": "demasking"}}),
    Arm("demasking-paraphrases", {"objective": {"name": "demasking"}}, paraphrases="same-order"),
    Arm("diffusion", {"objective": {"name": "diffusion"}}, diffusion=True),
)
# Ways to fine-tune. What masking is compared with first, and then what else could explain a difference: more
# tokens, more passes, or noise.
SFT_ARMS = (
    Arm("sft", {"objective": {"name": "sft"}}),
    Arm("masked-sft", {"objective": {"name": "masked-sft"}}),
    Arm("half masked", {"objective": {"name": "masked-sft", "share": 0.5}}),
    Arm("sft, as many tokens", {"objective": {"name": "sft"}}, tokens_of="masked-sft"),
    Arm("sft, twice the epochs", {"objective": {"name": "sft"}}, epochs=2.0),
    Arm("masked-sft, loss on all", {"objective": {"name": "masked-sft", "loss_on": "all"}}),
    Arm("masked first", {"objective": {"name": "masked-sft"}}, shares=(1.0, 0.0)),
    Arm("masked last", {"objective": {"name": "masked-sft"}}, shares=(0.0, 1.0)),
    Arm("rising share", {"objective": {"name": "masked-sft"}}, shares=(0.0, 0.25, 0.5, 0.75, 1.0)),
    Arm("masked steps", {"objective": {"name": "masked-sft", "unit": "step"}}),
    Arm("few masks", {"objective": {"name": "masked-sft", "mask_ratio": [0.05, 0.5]}}),
    Arm("many masks", {"objective": {"name": "masked-sft", "mask_ratio": [0.5, 0.95]}}),
    Arm("sft, noisy prompt", {"objective": {"name": "sft", "prompt_noise": 0.1}}),
)
# A model without any training; it is the column `before` of every other arm, so it has no cells.
UNTOUCHED = "untouched"


def _variants(key: str, values: Mapping[str, Any]) -> tuple[Arm, ...]:
    """Demasking with one key of its objective set to each value."""
    return tuple(
        Arm(label, {"objective": {"name": "demasking"} | ({} if value is None else {key: value})})
        for label, value in values.items()
    )


def _trained(label: str, **train: Any) -> Arm:
    return Arm(label, {"objective": {"name": "demasking"}, "train": train})


# Accuracy alone would say nothing of what these arms differ in.
_MEASURED = MappingProxyType({"measure": "quick"})


def _kept(label: str, *, rate: float = 1.0, **changes: Mapping[str, Any]) -> Arm:
    """The default with changes and without its gate, which would hide what they do to the weights."""
    retain = {"gate": False, **changes.pop("retain", {})}
    values = {**_MEASURED, "preset": "keep", "objective": {"name": "demasking"}, **changes, "retain": retain}
    return Arm(label, values, rate=rate)


# None stands for what the preset says.
ABLATIONS: Mapping[str, tuple[Arm, ...]] = {
    "ratio": _variants(
        "mask_ratio",
        {"ratio U(.05,.95)": RATIO_RANGE, "ratio 0": 0.0, "ratio 0.25": 0.25, "ratio 0.5": 0.5}
        | {"ratio 0.75": 0.75, "ratio 1": 1.0},
    ),
    "control": (
        *_variants("mask_ratio", {"masks": None}),
        Arm(
            "random tokens",
            {"objective": {"name": "demasking", "mask_token": RANDOM_TOKEN, "mask_ratio": 1.0}},
        ),
    ),
    "loss": _variants("loss_on", {"loss on all": "all", "loss on masked": "masked"}),
    "unit": _variants("unit", {"token": "token", "word": "word", "entity": "entity"}),
    "entity": _variants(
        "entity", {"entity as others": None, "entity never": "never", "entity always": "always"}
    ),
    "wording": _variants("instruction", {"one wording": None, "eight wordings": VARIED}),
    # Single characters are tokens of every byte-level vocabulary.
    "mask-token": _variants("mask_token", {"by family": None, "_": "_", "#": "#", "*": "*"}),
    "copies": tuple(
        # In batches that all of them divide.
        Arm(label, {"objective": {"name": "demasking", "copies": copies}, "train": {"batch_size": 10}})
        for label, copies in {"one copy": 1, "two copies": 2, "five copies": 5}.items()
    ),
    "lora": (
        _trained("full", method="full"),
        *(_trained(f"LoRA rank {rank}", method="lora", lora_rank=rank) for rank in (8, 32, 128)),
    ),
    "form": (
        Arm("next-token, chat", {"objective": {"name": "next-token"}}),
        Arm("next-token, raw", {"objective": {"name": "next-token", "question": None}}),
    ),
    "learning-rate": tuple(
        Arm(f"rate x {factor:g}", {"objective": {"name": "demasking"}}, rate=factor)
        for factor in (0.2, 0.5, 1.0, 2.0)
    ),
    "decay": tuple(
        Arm(f"rate falls over {share:g}", {"objective": {"name": "demasking"}, "train": {"decay": share}})
        for share in (0.0, 0.5, 1.0)
    ),
    "preset": tuple(Arm(f"preset {name}", {"preset": name}) for name in ("paper", "fast", "gated", "keep")),
    "retain": (
        Arm("fast", {**_MEASURED, "preset": "fast"}),
        Arm("next-token", {**_MEASURED, "preset": "fast", "objective": {"name": "next-token"}}),
        Arm("fast behind a gate", {**_MEASURED, "preset": "fast", "retain": {"gate": True}}),
        _kept("keep", retain={"gate": True}),
        _kept("without the gate"),
        _kept("without fragments", objective={"name": "demasking", "fragments": 0.0}),
        _kept("without wrapping", retain={"wrapped": 0.0}),
        _kept("with a budget", retain={"budget": 0.03}),
        _kept("with near misses", retain={"near_misses": 0.25}),
        _kept("all weights", train={"weights": "all"}),
        _kept("half of the replay", retain={"conversations": 4}),
        _kept("weight 1", retain={"weight": 1.0}),
        _kept("rate x 2", rate=2.0),
        _kept("rate x 0.5", rate=0.5),
        _kept("LoRA", train={"method": "lora"}),
    ),
}


def choose_arms(names: Sequence[str] | None, *, diffusion: bool) -> tuple[Arm, ...]:
    """Arms by name; all that this kind of model can be trained with where none is named.

    Raises:
        ConfigError: one is unknown, or is for the other kind of model.
    """
    able = tuple(arm for arm in ARMS if arm.diffusion == diffusion)
    if names is None:
        return able
    known = {arm.name: arm for arm in ARMS}
    for name in names:
        if name == UNTOUCHED:
            raise ConfigError("--arm untouched: it is measured in every run, as 'before'; leave it out")
        if name not in known:
            raise ConfigError(f"--arm: {name!r} is unknown, expected some of {', '.join(known)}")
        if known[name].diffusion != diffusion:
            kind = "masked-diffusion" if diffusion else "autoregressive"
            raise ConfigError(
                f"--arm {name}: does not train a model that is {kind}; "
                f"expected some of {', '.join(arm.name for arm in able)}"
            )
    return tuple(known[name] for name in names)


def choose_sft_arms(names: Sequence[str] | None) -> tuple[Arm, ...]:
    """Ways to fine-tune by name, all where none is named; plain SFT, the one to compare with, comes along.

    Raises:
        ConfigError: one is unknown.
    """
    known = {arm.name: arm for arm in SFT_ARMS}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"--arm: {name!r} is unknown, expected some of {', '.join(known)}")
    chosen = list(dict.fromkeys((SFT_ARMS[0].name, *(names or known))))
    return tuple(known[name] for name in chosen)


def choose_ablation(name: str) -> tuple[Arm, ...]:
    """The variants of an ablation.

    Raises:
        ConfigError: it is unknown.
    """
    if name not in ABLATIONS:
        raise ConfigError(f"--ablation: {name!r} is unknown, expected one of {', '.join(ABLATIONS)} or all")
    return ABLATIONS[name]
