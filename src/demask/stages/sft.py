"""Supervised fine-tuning and continued pre-training: prepare samples, measure those held out, and sum up.

samples = prepare_stage(config, run, progress)
summary = summarise_sft(config, run)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from demask.objectives.cpt import Cpt
from demask.objectives.sft import Sft
from demask.progress import Progress, Silent
from demask.recipe.fine_tuning import SftConfig
from demask.records import Example, Sample
from demask.stages.callbacks import is_asked_at
from demask.stages.samples import (
    PreparedSamples,
    check_block,
    describe_samples,
    longest_example,
    prepare,
)
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.models.load import LoadedModel


def check_sft(config: SftConfig) -> None:
    """See whether the recipe can train this kind of model, before minutes of tokenising.

    Raises:
        ConfigError, ModelError: it cannot.
    """
    from demask.models.context import load_context

    context = load_context(config.model, config.objective)
    longest_example(config, context)
    if config.is_text:
        check_block(config, context)


def prepare_stage(config: SftConfig, run: RunFolder, progress: Progress) -> PreparedSamples | None:
    """Tokenise the data and write down what there is; None where they are read while training.

    Raises:
        DataError, ConfigError, ModelError: see `samples.prepare`.
    """
    from demask.models.context import load_context

    if config.stream:
        run.write_json(file_names.DATA, {"stream": True, "held_out": 0})
        return None
    samples = prepare(config, load_context(config.model, config.objective), progress)
    run.write_json(file_names.DATA, describe_samples(samples))
    return samples


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


def summarise_sft(config: SftConfig, run: RunFolder) -> dict[str, Any]:
    """What the run did, as `summary.json` has it."""
    training, data = run.read_json(file_names.TRAINING), run.read_json(file_names.DATA)
    losses: Sequence[dict[str, Any]] = (
        run.read_rows(file_names.HELD_OUT) if run.has(file_names.HELD_OUT) else []
    )
    summary = {
        "objective": config.objective.name,
        "model": config.model,
        **{key: value for key, value in training.items() if key != "document_tokens"},
        "data": {key: value for key, value in data.items() if key != "cache"},
        "drift": training["interpolation"][-1]["drift"] if "interpolation" in training else None,
        "held_out_loss": {"before": losses[0]["loss"], "after": losses[-1]["loss"]} if losses else None,
    }
    run.write_json(file_names.SUMMARY, summary)
    return summary
