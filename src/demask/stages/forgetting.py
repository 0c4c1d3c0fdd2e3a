"""Take a document back: the model learns to say of it what the base model says, and the others are replayed.

    forget_stage(config, run, lineage, base, start, progress)       # forgetting.safetensors, what both said
    callback = end_when_forgotten(config, run, callback, loaded, others=pairs, steps=100)
    found = judge_forgetting(config, run, tuned, progress)          # what the trained model still says

What the base model says to the document's own prompts and questions is drawn once, with its likeliest tokens,
and so is what it expects at each place of the text; the model is held to both by KL(base || model). By
KL(parent || model) it is held to what the parent's model says to the other documents' prompts, which resemble
these. The questions are trained, so they are asked in other words, too, and the text's likelihood is
measured. None of this proves that nothing is left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from demask.errors import ConfigError
from demask.evaluation.metrics import HEADLINE, score_predictions
from demask.evaluation.retention.suite import Prose
from demask.progress import Progress
from demask.recipe.sections import RunConfig
from demask.records import Passage, Prediction, QAPair
from demask.reports.runs import UNGATED
from demask.stages.lineage import Lineage, Origin, read_lineage
from demask.stages.predictions import ask_stage, select_pairs
from demask.stages.replay import DRAWN_TOGETHER, FORGOTTEN, HELD, prompts_about
from demask.storage import file_names
from demask.storage.atomic import write_bytes
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.generation.conversations import Conversation
    from demask.models.load import LoadedModel
    from demask.stages.callbacks import Callback

    Accuracies: TypeAlias = Mapping[str, Mapping[str, float]]  # by form, then direction

# Prompts that the objective makes of each passage, and replies that the base model draws to each question.
_PROMPTS, _REPLIES = 16, 8
# Prompts of all other documents, evenly; as many as were tried (docs/updates.md).
_HELD = 144
_SEED = 19
# In front of a question that nobody has reworded.
_FRAME = "I have a question for you. {}"
FORMS = ("bare", "reworded")
# Training ends when the questions are answered as the base model does, to so much in either direction and
# form, and those of other documents as the parent's model does, less so much. All are asked so many times in
# the whole run, evenly, of the latter no more than so many (docs/updates.md has what was tried).
_NEAR, _COST, _LOOKS, _MOST_ASKED = 0.05, 0.03, 20, 50
# Models that are asked: `before` any training, the `parent`, and `after`.
MODELS = ("before", "parent", "after")


def forgets(lineage: Lineage | None) -> bool:
    """Whether a run takes documents back."""
    return lineage is not None and bool(lineage.origin.forgets)


def forgetting_stages(*models: str) -> list[str]:
    """Names of the stages at which models are asked about what is forgotten."""
    return [f"{model}-forgotten-{form}" for model in models for form in FORMS]


def check_forgetting(config: RunConfig, origin: Origin | None) -> None:
    """See that a model can be held to its base, where it is to forget something.

    Raises:
        ConfigError: it is a masked-diffusion model.
    """
    if origin is not None and origin.forgets and config.objective.needs.diffusion:
        raise ConfigError(
            "a masked-diffusion model is not held to its base by KL, so it cannot forget; train it anew "
            "without the document"
        )


def forget_stage(
    config: RunConfig,
    run: RunFolder,
    lineage: Lineage | None,
    base: "Callable[[], LoadedModel]",
    start: "Callable[[], LoadedModel]",
    progress: Progress,
) -> None:
    """Have the base model say what it would, and ask both models before training.

    Nothing where nothing is forgotten.

    Args:
        config: of the run.
        run: keeps it.
        lineage: of the run.
        base: gives the base model, called only when it is needed.
        start: the same of the parent's model.
        progress: told how far the work is.
    """
    if lineage is None or not lineage.origin.forgets:
        return
    from safetensors.torch import save

    from demask.evaluation.retention.drift import as_replies
    from demask.generation.conversations import add_targets, as_tensors

    passages, pairs = read_forgotten(run, lineage)
    for model, load in (("before", base), ("parent", start)):
        _ask(config, run, model, pairs, load, progress)
    if run.has(file_names.FORGETTING):
        return
    others = run.read_records(file_names.PASSAGES, Passage)
    others = others[:: -(-len(others) // _HELD) or 1]
    prompts = _make_prompts(config, base(), passages, pairs)
    held = _of_objective(config, base(), others, epochs=max(1, min(_PROMPTS, _HELD // max(len(others), 1))))
    likelihood = {"before": _measure_nats(base(), passages), "parent": _measure_nats(start(), passages)}
    run.write_json(file_names.FORGOTTEN, likelihood)
    # Scored once for each copy, as a file of safetensors has no tensor under two names.
    texts = [
        Prose(f"{FORGOTTEN}-text-{place}-{copy}", "", "", one.text)
        for place, one in enumerate(passages)
        for copy in range(_REPLIES)
    ]
    talks = [
        *add_targets(base(), as_replies(base(), texts)),
        *_draw(base(), prompts, FORGOTTEN, "Asking the base model about what is forgotten", progress),
        *_draw(start(), held, HELD, "Asking the trained model about other documents", progress),
    ]
    write_bytes(run.file(file_names.FORGETTING), save(as_tensors(talks)))


def read_forgotten(run: RunFolder, lineage: Lineage) -> tuple[list[Passage], list[QAPair]]:
    """Passages and questions of what this run forgets."""
    gone = {id for id, one in lineage.documents.items() if one.forgotten and one.removed == lineage.number}
    parent = RunFolder(Path(lineage.origin.parent))
    passages = [
        passage
        for passage in parent.open_records(file_names.PASSAGES, Passage)
        if passage.document_id in lineage.origin.forgets
    ]
    pairs = [pair for pair in run.read_records(file_names.REMOVED, QAPair) if pair.document_id in gone]
    return passages, pairs


def _make_prompts(
    config: RunConfig, loaded: "LoadedModel", passages: Sequence[Passage], pairs: Sequence[QAPair]
) -> list[tuple[int, ...]]:
    """The document's own, as it was trained, and its questions."""
    from demask.objectives.prompts import encode_question

    made = _of_objective(config, loaded, passages, epochs=_PROMPTS)
    asked = [encode_question(loaded.tokenizer, pair.question) for pair in pairs for _ in range(_REPLIES)]
    return [*made, *asked]


def _of_objective(
    config: RunConfig, loaded: "LoadedModel", passages: Sequence[Passage], *, epochs: int
) -> list[tuple[int, ...]]:
    """Prompts as passages were trained; none where the objective shows no text."""
    if not config.objective.shows_text:
        return []
    return [prompt for prompt in prompts_about(config, loaded, passages, epochs=epochs) if prompt]


def _draw(
    loaded: "LoadedModel", prompts: Sequence[tuple[int, ...]], name: str, doing: str, progress: Progress
) -> "list[Conversation]":
    from demask.generation.self_chats import REPLY_TOKENS, draw_replies

    if not prompts:
        return []
    progress.begin(doing, REPLY_TOKENS * len(prompts), unit="tokens")
    return draw_replies(
        loaded, prompts, name=name, seed=_SEED, rows=DRAWN_TOGETHER, on_drawn=progress.advance
    )


def _ask(
    config: RunConfig,
    run: RunFolder,
    model: str,
    pairs: Sequence[QAPair],
    load: "Callable[[], LoadedModel]",
    progress: Progress,
) -> None:
    asked = _word(pairs)
    ask = partial(ask_stage, run, load=load, settings=config.evaluate, progress=progress)
    for form, stage in zip(FORMS, forgetting_stages(model), strict=True):
        ask(stage, pairs=asked[form])


def _word(pairs: Sequence[QAPair]) -> dict[str, Sequence[QAPair]]:
    """The questions in each form."""
    return {
        "bare": pairs,
        "reworded": [replace(pair, question=pair.reworded or _FRAME.format(pair.question)) for pair in pairs],
    }


@dataclass(frozen=True)
class UntilForgotten:
    """Ends training once the questions about what is forgotten are answered as the base model does.

    The first steps cost the other documents much, and replay brings them back, so their questions are asked,
    too.

    Attributes:
        inner: is called besides.
        ask: gives the accuracies of the model that is trained, by form and direction.
        base: those of the base model.
        ask_others: gives the accuracies about other documents, by direction.
        others: those of the parent's model.
        every: steps between two looks.
    """

    inner: "Callback"
    ask: "Callable[[], Accuracies]"
    base: "Accuracies"
    ask_others: "Callable[[], Mapping[str, float]]"
    others: "Mapping[str, float]"
    every: int

    def on_step_end(self, step: int) -> None:
        """Nothing of its own."""
        self.inner.on_step_end(step)

    def should_stop(self, step: int) -> bool:
        """Ask, where it is time; every process says the same."""
        from demask.training.distributed import broadcast

        if self.inner.should_stop(step):
            return True
        return step % self.every == 0 and bool(broadcast(self._is_done()))

    def _is_done(self) -> bool:
        if _largest_gap(self.ask(), self.base) > _NEAR:
            return False
        now = self.ask_others() if self.others else {}
        return all(now[direction] >= value - _COST for direction, value in self.others.items())


def end_when_forgotten(
    config: RunConfig,
    run: RunFolder,
    callback: "Callback",
    loaded: "LoadedModel",
    *,
    others: Sequence[QAPair],
    steps: int,
) -> "Callback":
    """A callback that also ends training early, where a run forgets and questions tell how far it is.

    They do where the parent's model answers them otherwise than the base model; else nothing ends it early.

    Args:
        config: of the run.
        run: has what both models said before training.
        callback: of the run.
        loaded: the model that is trained.
        others: questions about the other documents.
        steps: of the whole run.
    """
    lineage = read_lineage(run)
    pairs = read_forgotten(run, lineage)[1] if lineage is not None and forgets(lineage) else []
    if lineage is None or not pairs:
        return callback
    before, parent = (
        {form: _values(_measure(run, model, form, pairs)) for form in FORMS} for model in ("before", "parent")
    )
    if _largest_gap(parent, before) <= _NEAR:
        return callback
    asked = others[:: -(-len(others) // _MOST_ASKED) or 1]
    said = _read_said(RunFolder(Path(lineage.origin.parent)))
    known = {prediction.qa_id for prediction in said}
    asked = [pair for pair in asked if pair.id in known]

    def ask_now(pairs: Sequence[QAPair]) -> "Mapping[str, float]":
        from demask.stages.callbacks import measure_accuracy

        rows, _ = measure_accuracy(loaded, pairs, config.evaluate)
        return {row["direction"]: row["value"] for row in rows if row["metric"] == HEADLINE}

    return UntilForgotten(
        callback,
        ask=lambda: {form: ask_now(worded) for form, worded in _word(pairs).items()},
        base=before,
        ask_others=lambda: ask_now(asked),
        others=_values(_score(said, asked)),
        every=max(1, steps // _LOOKS),
    )


def _read_said(parent: RunFolder) -> list[Prediction]:
    """What the trained model of a run says without its gate, as it is asked while it is trained further."""
    for stage in (UNGATED, "after"):
        if parent.has(file_names.predictions_file(stage)):
            return parent.read_records(file_names.predictions_file(stage), Prediction)
    return []


def _largest_gap(found: "Accuracies", other: "Accuracies") -> float:
    return max(
        abs(value - other[form][direction])
        for form, values in found.items()
        for direction, value in values.items()
    )


def _measure_nats(loaded: "LoadedModel", passages: Sequence[Passage]) -> float:
    """-log p of the passages, in nats per token."""
    from demask.evaluation.retention.drift import measure_texts

    rows = measure_texts(loaded, [Prose(one.id, "", "", one.text) for one in passages])
    return sum(row.nats for row in rows) / max(sum(row.tokens for row in rows), 1)


def judge_forgetting(
    config: RunConfig, run: RunFolder, load: "Callable[[], LoadedModel]", progress: Progress
) -> dict[str, Any]:
    """What is left of what a run forgets, for `summary.json`; empty where nothing is forgotten.

    Args:
        config: of the run.
        run: has what was said before training.
        load: gives the trained model, called only when it is needed.
        progress: told how far the work is.
    """
    lineage = read_lineage(run)
    if lineage is None or not lineage.origin.forgets:
        return {}
    passages, pairs = read_forgotten(run, lineage)
    _ask(config, run, "after", pairs, load, progress)
    likelihood = run.read_json(file_names.FORGOTTEN)
    if "after" not in likelihood:
        likelihood["after"] = _measure_nats(load(), passages)
        run.write_json(file_names.FORGOTTEN, likelihood)
    return {
        "documents": list(lineage.origin.forgets),
        "accuracy": {form: _accuracies(run, form, pairs) for form in FORMS} if pairs else {},
        "nats": likelihood,
    }


def keep_likelihoods(run: RunFolder, new: RunFolder) -> None:
    """Copy what was measured before training to a run that has another trained model."""
    if run.has(file_names.FORGOTTEN):
        found = run.read_json(file_names.FORGOTTEN)
        new.write_json(file_names.FORGOTTEN, {name: found[name] for name in ("before", "parent")})


def _accuracies(run: RunFolder, form: str, pairs: Sequence[QAPair]) -> dict[str, dict[str, Any]]:
    """By model, then direction."""
    return {model: _measure(run, model, form, pairs) for model in MODELS}


def _measure(run: RunFolder, model: str, form: str, pairs: Sequence[QAPair]) -> dict[str, Any]:
    """Accuracy by direction, from what a model has said."""
    said = run.read_records(file_names.predictions_file(f"{model}-forgotten-{form}"), Prediction)
    return _score(said, pairs)


def _score(said: Sequence[Prediction], pairs: Sequence[QAPair]) -> dict[str, Any]:
    """Accuracy by direction of the questions that were answered and are among the pairs."""
    from demask.evaluation.statistics import summarise

    asked = select_pairs(pairs, (prediction.qa_id for prediction in said))
    ids = {pair.id for pair in asked}
    metrics = summarise(score_predictions([one for one in said if one.qa_id in ids], asked), asked)
    return {direction: values[HEADLINE] for direction, values in metrics.items()}


def _values(measured: "Mapping[str, Mapping[str, float]]") -> dict[str, float]:
    return {direction: estimate["value"] for direction, estimate in measured.items()}
