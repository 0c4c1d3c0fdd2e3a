"""Evaluation while a model trains: its accuracy at some steps, and whether it may stop early.

    callback = EvaluationCallback(config, run, loaded, context, learned, pairs)
    train_model(..., on_step_end=callback.on_step_end, should_stop=callback.should_stop)

Nothing here draws from the generators of training, so the weights do not notice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

from demask.objectives.cpt import Cpt
from demask.objectives.demasking import Demasking
from demask.objectives.sft import Sft
from demask.progress import Progress, Silent
from demask.recipe.fine_tuning import SftConfig
from demask.recipe.sections import Evaluate, RunConfig
from demask.records import Example, QAPair, Sample
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.models.load import LoadedModel
    from demask.objectives.batches import Batch
    from demask.objectives.objective import Context
    from demask.training.stream import ExposureStream

# The first step of a learning curve at doubling steps: before it hardly anything is learned.
_FIRST_DOUBLING = 8
# Exposures of a passage between two probes, and before the first: a probe costs about two thirds of one.
_PROBE_EXPOSURES, _FIRST_PROBE = 4, 12
# Passages that a probe looks at, evenly over all.
_PROBED = 100
# Probed examples that go through the model together.
_TOGETHER = 20


class Callback(Protocol):
    """What is called while training runs, after every step, with the model at rest."""

    def on_step_end(self, step: int) -> None:
        """Measure, where it is time; that time is not counted as training."""

    def should_stop(self, step: int) -> bool:
        """Whether training may end here; every process must say the same."""


@dataclass(frozen=True)
class EvaluationCallback:
    """Measures accuracy at some steps, and stops early where the texts can be written.

    Attributes:
        config: of the run.
        run: gets the accuracies.
        loaded: the model that is trained.
        context: of the model.
        learned: what it is trained on.
        pairs: what it is asked.
        progress: told the accuracies.
    """

    config: RunConfig
    run: RunFolder
    loaded: "LoadedModel"
    context: "Context"
    learned: "ExposureStream[Any]"
    pairs: Sequence[QAPair]
    progress: Progress

    def on_step_end(self, step: int) -> None:
        """Ask, where it is time."""
        if not self.pairs or not is_asked_at(step, self.config.train.evaluate_every):
            return
        from demask.evaluation.metrics import HEADLINE
        from demask.training.distributed import is_main_process

        answered = measure_accuracy(self.loaded, self.pairs, self.config.evaluate)
        if not is_main_process():  # all have asked the same
            return
        for name, rows in zip((file_names.ACCURACY, file_names.STEP_SCORES), answered, strict=True):
            for row in rows:
                self.run.append_row(name, {"step": step, **row})
        rows = [row for row in answered[0] if row["metric"] == HEADLINE]
        self.progress.advance(0, {f"{row['direction']} accuracy": row["value"] for row in rows})

    def should_stop(self, step: int) -> bool:
        """Probe, where it is time: whether so many texts are in that training may end."""
        from demask.training.distributed import broadcast

        wanted = self.config.train.stop
        if wanted is None or not self._is_probed_at(step):
            return False
        # Several processes must end together, and a kernel may round on one GPU as on no other.
        return bool(broadcast(self._share_recovered() >= wanted))

    def _is_probed_at(self, step: int) -> bool:
        every = max(1, round(_PROBE_EXPOSURES * len(self.learned.passages) / self.learned.batch_size))
        return step % every == 0 and step * self.learned.batch_size >= _FIRST_PROBE * len(
            self.learned.passages
        )

    def _share_recovered(self) -> float:
        """Share of passages of which either half is written from the other."""
        import torch

        from demask.models.acceleration.target_logits import score_targets
        from demask.models.precision import choose_bf16
        from demask.objectives.batches import move_batch, pad

        model, probes = self.loaded.model, self._probes
        bf16 = choose_bf16(self.config.train.precision, self.loaded.device)
        worst: list[float] = []
        model.eval()
        for start in range(0, len(probes), _TOGETHER):
            part = probes[start : start + _TOGETHER]
            batch: Batch = move_batch(pad(part, pad_id=self.loaded.pad_id, shift=1), model.device)
            with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
                scored = score_targets(model, batch, head_of=model)
            hidden = scored.nats_N[scored.masked_N].float().cpu()
            worst += [float(nats.max()) for nats in hidden.split([sum(probe.masked) for probe in part])]
        model.train()
        return share_recovered(worst)

    @cached_property
    def _probes(self) -> "list[Example]":
        objective = cast("Demasking", self.config.objective)
        step = max(1, len(self.learned.passages) // _PROBED)
        places = range(0, len(self.learned.passages), step)[:_PROBED]
        return [
            probe
            for place in places
            for probe in objective.probes(self.context, self.learned.passages[place])
        ]


@dataclass(frozen=True)
class HeldOut:
    """Measures the loss of the samples that are not trained, before training and at some steps.

    Whatever the objective, it is that of the answer after its bare prompt, as it is asked for, so that
    objectives can be compared; of running text that of the block.

    Attributes:
        config: of the run.
        run: gets the losses.
        loaded: the model that is trained.
        samples: those that are held out.
        progress: told of it.
    """

    config: SftConfig
    run: RunFolder
    loaded: "LoadedModel"
    samples: Sequence[Sample]
    progress: Progress

    def on_step_end(self, step: int) -> None:
        """Measure, where it is time."""
        if self.samples and is_asked_at(step, self.config.train.evaluate_every):
            self.progress.advance(0, {"held-out loss": self.measure(step, told=Silent())})

    def should_stop(self, step: int) -> bool:
        """Never: training ends where the recipe says."""
        return False

    def measure(self, step: int, *, told: Progress | None = None) -> float:
        """Add the loss at this step to the log of the run.

        Args:
            step: after which it is measured.
            told: how far this is; None: the progress of the run, as a phase of its own.
        """
        from demask.evaluation.held_out import measure_loss
        from demask.models.precision import choose_bf16
        from demask.training.distributed import is_main_process

        told = told or self.progress
        told.begin("Measuring held-out samples", len(self.samples), unit="samples")
        training = self.loaded.model.training
        self.loaded.model.eval()
        bf16 = choose_bf16(self.config.train.precision, self.loaded.device)
        loss = measure_loss(self.loaded, self._examples, bf16=bf16, on_done=told.advance)
        self.loaded.model.train(training)
        if is_main_process():
            self.run.append_row(file_names.HELD_OUT, {"step": step, "loss": loss})
        return loss

    @cached_property
    def _examples(self) -> list[Example]:
        from demask.models.context import make_context

        objective = Cpt() if self.config.is_text else Sft()
        make = objective.example_maker(make_context(self.loaded, objective), seed=0)
        return [make(sample, 0, 0) for sample in self.samples]


def share_recovered(worst: Sequence[float]) -> float:
    """Share of texts whose halves are both written: each hidden token has more than half of the probability.

    Args:
        worst: the nats of the least likely hidden token of each probe; two probes in a row are of one text.
    """
    texts = list(zip(worst[::2], worst[1::2], strict=True))
    written = sum(max(halves) < math.log(2) for halves in texts)
    return written / len(texts) if texts else 0.0  # texts of one word have no halves


def is_asked_at(step: int, every: int | str | None) -> bool:
    """Whether to ask after this step: every so many, or where steps have doubled (8, 16, 32, ...)."""
    if every is None:
        return False
    if isinstance(every, int):
        return step % every == 0
    return step >= _FIRST_DOUBLING and step & (step - 1) == 0


def measure_accuracy(
    loaded: "LoadedModel", pairs: Sequence[QAPair], settings: Evaluate
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Ask in the middle of training: a row for each direction and metric, and one for each question."""
    from demask.evaluation.metrics import score_predictions
    from demask.evaluation.qa import ask_questions
    from demask.evaluation.statistics import summarise

    loaded.model.eval()
    predictions = ask_questions(loaded, pairs, settings)
    loaded.model.train()
    scores = score_predictions(predictions, pairs)
    rows = [
        {"direction": direction, "metric": metric, **numbers}
        for direction, metrics in summarise(scores, pairs).items()
        for metric, numbers in metrics.items()
    ]
    return rows, [score.as_row() for score in scores]
