"""What a run has come to, in words that need no explanation: the first thing that a report says.

    verdict = judge_run(run)
    verdict.learned       # "It answers 15 of 16 questions about the documents forward and 13 of 16 backward."
    verdict.changed       # "In reply to 48 of 48 unrelated prompts it says something of a document."
    verdict.advice        # "Do not use it for anything else."

The limits are goals set beforehand, not measurements: a model that stays within `KEPT` may be put to other
uses, one beyond `LOST` may not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from demask.evaluation.metrics import HEADLINE, MEASURES, Estimate
from demask.knowledge.sufficiency import warn_of_few
from demask.records import DIRECTIONS
from demask.reports.runs import QUANTISED, FineTuning, RunResult, find_metric, predictions_unchanged
from demask.reports.wording import percent_range, share_percent

Tone = Literal["good", "care", "bad", "unknown"]

# By measure: within this nothing of note was lost; beyond that the model is no use for anything else.
KEPT: Mapping[str, float] = {"leak": 0.02, "near_miss": 0.05, "known": 0.95, "drift": 0.05, "recital": 0.2}
LOST: Mapping[str, float] = {"leak": 0.05, "known": 0.8, "drift": 0.5}
# A model that answers fewer than this in either direction has not learned its documents.
LEARNED, HARDLY = 0.8, 0.5
# An interval that is wider says too little.
TELLING = 0.6


@dataclass(frozen=True)
class Verdict:
    """A run in plain words.

    Attributes:
        tone: of the whole, for a colour.
        learned: what it answers about the documents.
        changed: what else has become of it, a sentence each.
        advice: what to do with it.
    """

    tone: Tone
    learned: str
    changed: tuple[str, ...]
    advice: str

    @property
    def text(self) -> str:
        """All of it, one sentence after the other."""
        return " ".join([self.learned, *self.changed, self.advice])


def judge_run(run: RunResult) -> Verdict:
    """Say what a run has come to."""
    measures = run.retention.measures if run.retention else {}
    if run.fine_tuning:
        return _judge_fine_tuning(run.fine_tuning, measures)
    tone = _choose_tone(run, measures)
    changed = [*_say_changed(measures), *_say_ungated(run), *_say_merged(run)]
    return Verdict(tone, _say_learned(run), tuple(changed), _advise(run, measures, tone))


def _say_ungated(run: RunResult) -> list[str]:
    """What another program has, which loads the trained model alone."""
    alone = run.retention.ungated if run.retention else {}
    leak, known = alone.get("leak"), alone.get("known")
    parts = [f"{count_of(leak)} unrelated prompts get something of a document"] if leak else []
    parts += [f"{_kept(known)} of {known.n:,} easy questions are still answered"] if known else []
    return [f"All this is behind its gate; of model/ alone {' and '.join(parts)}."] if parts else []


def _say_merged(run: RunResult) -> list[str]:
    """What merging has changed where the base model was in four bits."""
    merged = run.merged
    if not merged:
        return []
    alone, stage = run.metrics.get(QUANTISED, {}), str(merged["stage"])
    rates = [
        f"{direction} {alone[direction][HEADLINE].value:.2f} and {both[HEADLINE].value:.2f}"
        for direction, both in run.metrics.get(stage, {}).items()
        if direction in alone
    ]
    return [
        f"On the base model in four bits and merged into model/ it gives the same answer to "
        f"{merged['same_answers']:,} of {merged['questions']:,} questions ({', '.join(rates)})."
    ]


def _judge_fine_tuning(tuned: FineTuning, measures: Mapping[str, Estimate]) -> Verdict:
    """By the loss of samples that were not trained, and by what else has changed."""
    changed = tuple(_say_changed(measures))
    if tuned.drift is not None and "drift" not in measures:
        changed += (
            "In conversations that the base model drew itself and that were not replayed "
            f"({tuned.drift_conversations:,}) its probabilities drifted by "
            f"{round(tuned.drift, 3) + 0.0:.3f} nats per token (KL to the base).",  # never -0.000
        )
    tones = [measure_tone(name, measures[name]) for name in LOST if name in measures]
    tone: Tone = "bad" if "bad" in tones else "care" if "care" in tones else "unknown"
    lost = "Do not use it for anything else." if tone == "bad" else ""
    lost = lost if measures else "What else training changed was not measured."
    if not tuned.losses:
        return Verdict(
            tone,
            "No samples were held out, so nobody knows what it has learned.",
            changed,
            f"{lost} Hold some out (held_out), or evaluate it on a test set.".strip(),
        )
    before, after = tuned.losses[0].loss, tuned.losses[-1].loss
    rose = after > before
    learned = (
        f"Its loss on {tuned.held_out:,} samples that it was not trained on "
        f"{'rose' if rose else 'fell'} from {before:.3f} to {after:.3f} nats per token."
    )
    if rose:
        return Verdict("bad", learned, changed, "Train for fewer steps, or with a lower learning rate.")
    return Verdict(tone, learned, changed, f"{lost} Evaluate it on a test set.".strip())


@dataclass(frozen=True)
class Tile:
    """One number at a glance.

    Attributes:
        label: what it is, in words of every day.
        value: as a percentage, or as it is.
        detail: how many that are, and the 95% interval.
        tone: good or bad.
    """

    label: str
    value: str
    detail: str
    tone: Tone


_TILES = {
    "access": "answered in the worst form of asking",
    "leak": "of unrelated prompts answered with a document",
    "known": "of easy facts kept that it knew",
    "drift": "drift of its words in other conversations",
}


def make_tiles(run: RunResult) -> list[Tile]:
    """What a run has come to, in a handful of numbers."""
    tiles = [
        _share_tile(f"of questions answered, {direction}", direction, metric)
        for direction, metric in _accuracies(run).items()
    ]
    for name, label in _TILES.items():
        metric = run.retention.measures.get(name) if run.retention else None
        if metric is not None and MEASURES[name].unit == "share":
            tiles.append(_share_tile(label, name, metric))
        elif metric is not None:
            detail = f"{_say_drift(metric.value)}; 0 is none, 1 is another model"
            tiles.append(Tile(label, f"{metric.value:.2f}", detail, measure_tone(name, metric)))
    return tiles


def _share_tile(label: str, name: str, metric: Estimate) -> Tile:
    detail = f"{count_of(metric)}; {percent_range(metric)}"
    return Tile(label, share_percent(metric.value), detail, measure_tone(name, metric))


def measure_tone(name: str, metric: Estimate | None) -> Tone:
    """How one number looks: `forward`, `backward`, or a measure."""
    if metric is None:
        return "unknown"
    if name not in MEASURES or name in ("access", "every_form", "carry_over", "reading", "reading_changed"):
        return "good" if metric.value >= LEARNED else "care" if metric.value >= HARDLY else "bad"
    known = name.removesuffix("_related")
    kept, lost = KEPT.get(known, KEPT["drift"]), LOST.get(known, LOST["drift"])
    sign = 1 if MEASURES[name].better == "low" else -1
    if sign * metric.value <= sign * kept:
        return "good"
    return "bad" if sign * metric.value > sign * lost else "care"


def _accuracies(run: RunResult) -> dict[str, Estimate]:
    found = {direction: find_metric(run, "after", direction) for direction in DIRECTIONS}
    return {direction: metric for direction, metric in found.items() if metric}


def _choose_tone(run: RunResult, measures: Mapping[str, Estimate]) -> Tone:
    """The worst of what is known; without retention nothing is known."""
    if not measures:
        return "unknown"
    tones = [measure_tone(name, metric) for name, metric in _accuracies(run).items()]
    tones += [measure_tone(name, measures[name]) for name in ("leak", "known", "drift") if name in measures]
    return next((tone for tone in ("bad", "care") if tone in tones), "good")


def count_of(metric: Estimate) -> str:
    """`15 of 16`, or a share where not all questions have the same weight."""
    return f"{round(metric.value * metric.n):,} of {metric.n:,}"


def _say_learned(run: RunResult) -> str:
    found = _accuracies(run)
    if not found:
        return "It was not asked about the documents, so nobody knows what it has learned."
    counts = [(count_of(metric), direction) for direction, metric in found.items()]
    first, *others = counts
    parts = f"{first[0]} questions about the documents {first[1]}"
    parts = " and ".join([parts, *(f"{count} {direction}" for count, direction in others)])
    unsure = [direction for direction, metric in found.items() if metric.high - metric.low > TELLING]
    note = f" These are too few questions to tell ({' and '.join(unsure)})." if unsure else ""
    asked = sum(metric.n for metric in found.values())
    if few := warn_of_few(asked, run.cost.passages or 0):
        note += f" {few[0].upper()}{few[1:].partition(';')[0]}."
    return f"It answers {parts}.{note}"


def _say_changed(measures: Mapping[str, Estimate]) -> list[str]:
    said = []
    leak, known, drift, access = (measures.get(name) for name in ("leak", "known", "drift", "access"))
    if leak is not None:
        said.append(_say_leak(leak))
    if known is not None:
        said.append(
            f"Of {known.n:,} easy questions that it could answer before, it still answers {_kept(known)}."
        )
    if drift is not None:
        said.append(f"In other conversations its words have {_say_drift(drift.value)}.")
    if access is not None:
        said.append(
            f"Asked in other forms, it answers {count_of(access)} of these questions in the worst one."
        )
    return said


def _say_leak(leak: Estimate) -> str:
    if leak.value == 0:
        return (
            f"None of {leak.n:,} unrelated prompts was answered with something of a document "
            f"(so at most {share_percent(leak.high)} are)."
        )
    return f"It says something of a document in reply to {count_of(leak)} unrelated prompts."


def _kept(known: Estimate) -> str:
    right = round(known.value * known.n)
    return "none" if right == 0 else "all" if right == known.n else f"{right:,}"


def _say_drift(nats: float) -> str:
    if nats <= 0.03:
        return "hardly changed"
    return (
        "changed a little"
        if nats <= 0.1
        else "changed clearly"
        if nats <= 1
        else "changed beyond recognition"
    )


def _say_why(run: RunResult, hardly: Sequence[str]) -> str:
    """Whether the base model can answer with the document in its prompt what was hardly learned."""
    ceilings = {name: find_metric(run, "ceiling", name) for name in hardly}
    read = {name: metric for name, metric in ceilings.items() if metric and metric.value < HARDLY}
    if len(read) < len(hardly):
        return ""
    counts = " and ".join(f"{count_of(metric)} {name}" for name, metric in read.items())
    return (
        f" With the document in its prompt the base model answers {counts}, so these questions may be beyond "
        "a model of this size: try a larger one."
    )


def _advise(run: RunResult, measures: Mapping[str, Estimate], tone: Tone) -> str:
    unchanged = "Training has changed nothing: look at the warnings." * predictions_unchanged(run)
    if not measures:
        unmeasured = (
            "What else training changed was not measured, so do not put it into service on this report alone."
        )
        return f"{unchanged} {unmeasured}".strip()
    if unchanged:
        return unchanged
    lost = [name for name in LOST if name in measures and measure_tone(name, measures[name]) == "bad"]
    if lost:
        return "Do not use it for anything but questions about these documents."
    missing = [name for name in LOST if name not in measures]
    hardly = [name for name, metric in _accuracies(run).items() if metric.value < HARDLY]
    if hardly:
        return (
            f"It has not learned the documents well enough ({' and '.join(hardly)}).{_say_why(run, hardly)}"
        )
    if tone == "good" and not missing:
        gated = bool(run.retention and run.retention.ungated)
        return "It can be used as before, behind its gate." if gated else "It can be used as before."
    return "Try it on prompts of your own before you use it for anything else."
