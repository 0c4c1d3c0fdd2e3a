"""Numbers and sentences as people read them.

    interval(Estimate(0.933, 0.871, 0.969, 40))   -> "0.93 [0.87, 0.97]"
    headline(run)                               -> "After 120 steps on 8 documents, ..."
    citation(run)                               -> the sentence to quote, with all it depends on

Every number has a missing form, `MISSING`, so that tables keep their shape.
"""

import math
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import demask
from demask.evaluation.metrics import HEADLINE, METRICS, Change, Estimate
from demask.records import DIRECTIONS
from demask.reports.runs import (
    QUANTISED,
    UNGATED,
    AnswerCost,
    BreakEven,
    RunResult,
    asked_directions,
    find_metric,
    predictions_unchanged,
    read_retrieval_stage,
)
from demask.words import find_phrase

MISSING = "–"
STAGE_NAMES = {
    "before": "before",
    "after": "after",
    "ceiling": "ceiling",
    UNGATED: "after, without its gate",
    QUANTISED: "after, not merged, in four bits",
    "few-shot": "after, few-shot",
}
# What the built-in model is, since `embedded` says nothing to a reader.
EMBEDDED = "SmolLM2-135M-Instruct"
CANARY = (
    "Canary: predictions before and after are identical, word for word. Either training moved nothing or "
    "the base model was asked twice."
)

# Neither XML nor UTF-8 can hold these: control characters but tab and newlines, and lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def stage_name(stage: str) -> str:
    """A stage as a reader knows it: `before, 3 passages retrieved`."""
    retrieved = read_retrieval_stage(stage)
    if retrieved:
        model, top = retrieved
        return f"{model}, {_plural(top, 'passage')} retrieved"
    return STAGE_NAMES[stage]


def clean(text: str) -> str:
    """The text with every character that a page cannot hold replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def share(value: float | None) -> str:
    """A share with two digits: `0.93`."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.2f}"


def interval(metric: Estimate | None) -> str:
    """A metric with its interval: `0.93 [0.87, 0.97]`."""
    return MISSING if metric is None else f"{share(metric.value)} [{share(metric.low)}, {share(metric.high)}]"


def signed(value: float | None) -> str:
    """A difference with its sign: `+0.88`, `−0.02`."""
    if value is None or not math.isfinite(value):
        return MISSING
    rounded = round(value, 2)
    return "0.00" if rounded == 0 else f"{rounded:+.2f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """`p < 0.001` or `p = 0.012`."""
    if value is None or not math.isfinite(value):
        return "p unknown"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def change(value: Change | None, corrected: float | None = None) -> str:
    """A difference, its interval and its p-value, or the corrected one where it stands beside others."""
    if value is None:
        return MISSING
    shown = value.p_value if corrected is None else corrected
    return f"{signed(value.difference)} [{signed(value.low)}, {signed(value.high)}], {p_value(shown)}"


def count(value: float | None) -> str:
    """A whole number with separators: `12,345`; one digit where it is not whole."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def minutes(seconds: float | None) -> str:
    """A duration in minutes."""
    return MISSING if seconds is None else f"{seconds / 60:,.1f}"


def memory(size: int | None) -> str:
    """A size in bytes as GB of 10^9 bytes."""
    return MISSING if size is None else f"{size / 1e9:.2f} GB"


def percent(value: float | None) -> str:
    """A share as a percentage that never rounds up to 100%."""
    if value is None:
        return MISSING
    return "100%" if value >= 1 else f"{math.floor(value * 1000) / 10:.1f}%"


def share_percent(value: float) -> str:
    """A share as a whole percentage that reads 0% or 100% only where it is."""
    if 0 < value < 0.005:
        return "<1%"
    return ">99%" if 0.995 < value < 1 else f"{value:.0%}"


def percent_range(metric: Estimate) -> str:
    """The interval of a share in whole percent: `71–99%`."""
    return f"{metric.low:.0%}–{metric.high:.0%}".replace("%–", "–")


def model_name(run: RunResult) -> str:
    """The model as a reader knows it: no `embedded`, no folders of somebody's disk."""
    if run.model == "embedded":
        return EMBEDDED
    return PurePath(run.model).name if run.model.startswith(("/", ".", "~")) else run.model


def version(run: RunResult) -> str:
    """The version of demask that made the run, else of the one that reads it."""
    versions = run.environment.get("versions")
    found = run.environment.get("demask") or (versions.get("demask") if isinstance(versions, dict) else None)
    return str(found or demask.__version__)


def loss_name(run: RunResult) -> str:
    """What the loss over all tokens is called: of diffusion it is a bound only in the count form."""
    if run.objective != "diffusion":
        return "all tokens"
    objective = run.config.get("objective")
    is_bound = isinstance(objective, Mapping) and objective.get("noise") == "count"
    return "bound on −log p" if is_bound else "weighted loss"


def headline(run: RunResult) -> str:
    """The run in one plain sentence."""
    cost, tuned = run.cost, run.fine_tuning
    start = f"After {_plural(cost.steps, 'step')} on {learned_from(run)}"
    if tuned:
        left = f" {_plural(tuned.left_out, 'sample')} were left out as too long." if tuned.left_out else ""
        return f"{start}, {model_name(run)} has been fine-tuned with {run.objective}.{left}"
    asked = [direction for direction in DIRECTIONS if find_metric(run, "after", direction)]
    if not asked:
        return (
            f"{start}, {model_name(run)} has been trained with {run.objective}. "
            "It was not asked any questions, so this report cannot say what it has learned."
        )
    answered = " and ".join(
        f"{interval(find_metric(run, 'after', direction))} of the {direction}" for direction in asked
    )
    parts = [f"{start}, {model_name(run)} answers {answered} questions"]
    for stage, words in (("before", "before"), ("ceiling", "with the document in the prompt")):
        found = [find_metric(run, stage, direction) for direction in asked]
        if any(found):
            parts.append(f"{words}: " + " and ".join(share(m.value if m else None) for m in found))
    return "; ".join(parts) + "."


def learned_from(run: RunResult) -> str:
    """What it was trained on: `8 documents`, `320 samples`."""
    if run.fine_tuning is None:
        return _plural(run.cost.documents, "document")
    if run.fine_tuning.samples is None:
        return "samples read while training"
    return _plural(run.fine_tuning.samples, "sample")


def citation(run: RunResult) -> str:
    """A sentence to quote, with everything the number depends on."""
    made = (
        f"{model_name(run)} trained with demask {version(run)} (objective {run.objective}, "
        f"{_plural(run.cost.steps, 'step')}, {learned_from(run)}, "
        f"seed {run.config.get('seed', MISSING)}, config sha256 {run.config_sha256[:12]})"
    )
    measured = [
        f"{interval(after)} of n = {count(after.n)} {direction} questions{_bounds(run, direction)}"
        for direction in asked_directions([run])
        if (after := find_metric(run, "after", direction))
    ]
    if run.fine_tuning:
        losses = [f"{point.loss:.3f}" for point in run.fine_tuning.losses]
        said = (
            f"held-out loss {losses[-1]} nats per token (before {losses[0]})" if losses else "not evaluated"
        )
        return f"{made}; {said}."
    if not measured:
        return f"{made}; no questions were asked."
    return (
        f"{made} answers {' and '.join(measured)}; metric: {METRICS[HEADLINE].label}, "
        "greedy decoding, 95% intervals clustered by document."
    )


GATED = (
    "A gate stands before the trained model: the base model answers prompts that share no rare words with a "
    "document, or bring one that says something else. The figures after training are those of both together, "
    "as demask's ask, chat, serve and evaluate have them. A program that loads model/ alone has the trained "
    "model without its gate."
)


def has_gate(run: RunResult) -> bool:
    """Whether its base model answers what is not about the documents."""
    retain = run.config.get("retain")
    return isinstance(retain, Mapping) and bool(retain.get("gate"))


def cautions(run: RunResult) -> list[str]:
    """What a reader must know before believing the numbers: the run's warnings, and what its files show."""
    found = [*run.warnings, *([GATED] if has_gate(run) else [])]
    if predictions_unchanged(run):
        found.append(CANARY)
    if run.cost.coverage is not None and run.cost.coverage < 1:
        found.append(f"Coverage: only {percent(run.cost.coverage)} of the document tokens were trained on.")
    return list(dict.fromkeys(found))


def describe_break_even(top: int, even: BreakEven, base: AnswerCost, tuned: AnswerCost) -> str:
    """After how many questions training has paid for itself, in plain sentences.

    Args:
        top: passages in the prompt of the base model.
        even: the numbers of questions.
        base: an answer of the base model with them.
        tuned: an answer of the trained model to the bare question.
    """
    with_passages = f"with {_plural(top, 'passage')} retrieved"
    if base.prompt_tokens is None or tuned.prompt_tokens is None:
        tokens = f"How many tokens an answer {with_passages} takes is not known."
    else:
        spent, less = base.prompt_tokens + base.tokens, tuned.prompt_tokens + tuned.tokens
        takes = f"An answer {with_passages} takes {spent:,.0f} tokens, one of the trained model {less:,.0f}"
        tokens = (
            f"{takes}: after {count(even.tokens)} questions training has paid for its tokens."
            if even.tokens
            else f"{takes}: in tokens training never pays for itself."
        )
    in_time = (
        f"In time it has after {count(even.seconds)} questions"
        if even.seconds
        else "In time it never has, as measured here"
    )
    return f"{tokens} {in_time} ({base.seconds:.2f} and {tuned.seconds:.2f} s an answer)."


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one level of dotted names; lists on one line."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        elif isinstance(value, list | tuple):
            flat[f"{prefix}{name}"] = ", ".join(str(item) for item in value)
        else:
            flat[f"{prefix}{name}"] = MISSING if value is None else str(value)
    return flat


def shorten(text: str, limit: int) -> str:
    """The text, or its first `limit` characters and an ellipsis."""
    return text if len(text) <= limit else text[:limit].rstrip() + "…"


def find_answer(text: str, answers: tuple[str, ...]) -> tuple[int, int] | None:
    """Where the longest accepted answer that stands in a prediction does, found as the scorer finds it."""
    for answer in sorted(answers, key=len, reverse=True):
        found = find_phrase(text, answer)
        if found:
            return found
    return None


def _bounds(run: RunResult, direction: str) -> str:
    found = [(stage, find_metric(run, stage, direction)) for stage in ("before", "ceiling")]
    shown = ", ".join(f"{stage} {share(metric.value)}" for stage, metric in found if metric)
    return f" ({shown})" if shown else ""


def _plural(number: int | None, noun: str) -> str:
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")
