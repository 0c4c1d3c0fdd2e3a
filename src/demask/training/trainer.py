"""Train a model on a stream of examples, on `transformers.Trainer`.

    train_model(model, stream, settings, folder=run / "checkpoints", on_step=print)

Ours are the order of examples, the loss and the checks; FSDP, DeepSpeed, several nodes and the
optimizer come with the Trainer. The loss of a step is the sum of weighted nats over all its
micro-batches, divided once by the number of tokens that it stands for: accumulation changes memory, not
results. Several ranks share the micro-batches of a step and train the same weights; what is logged is of all.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.data import DataLoader
from transformers import Trainer

from demask.errors import InterruptionError, RunError
from demask.losses.cross_entropy import cross_entropy
from demask.losses.terms import Term, apply_terms, combine
from demask.models.acceleration.layers import checkpointed_layers, compiled_layers, memory_efficient_layers
from demask.models.acceleration.packing import PACKED, using_attention
from demask.models.acceleration.target_logits import (
    check_target_logits,
    never_written,
    packing_is_exact,
    predict_targets,
    score_targets,
)
from demask.models.diffusion import diffusion_form
from demask.models.precision import going_by, own_forward
from demask.objectives.batches import Batch, move_batch, pack, pad
from demask.records import Example
from demask.signals import noting_signals
from demask.training.callbacks import StepEndCallback
from demask.training.checkpoints import (
    find_checkpoint,
    prune_checkpoints,
    read_manifest,
    whole_or_removed,
    write_manifest,
)
from demask.training.ranks import ask_first, is_first
from demask.training.settings import WARMUP_SHARE, TrainSettings, make_arguments
from demask.training.sharding import (
    compute_as_whole,
    is_sharded,
    make_whole,
    refuse_other_strategy,
)
from demask.training.stream import ExampleStream, cut_micro_batches
from demask.training.tally import Tally, add_up, count

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Nats per token by which packed and padded examples may differ: by the order of sums in float32, by
# rounding in bfloat16. Ours, with room; an example that sees another differs by far more than the first.
PACKING_TOLERANCE = {False: 1e-2, True: 0.25}
_RATIO_BINS = 5


Collate = Callable[[Sequence[Example]], Batch]


@dataclass(frozen=True)
class StepMetrics:
    """What is logged of a step; losses in nats per token, None where no such token was scored.

    Attributes:
        loss: what is minimised, all terms together; in diffusion weighted, and over all tokens that might
            have been masked: an estimate of a bound on -log p per token where `Diffusion.loss_is_bound` says
            so, else none.
        loss_masked: of masked tokens, unweighted.
        loss_copied: of the tokens that the prompt shows.
        loss_by_ratio: of masked tokens, unweighted, by the share of their example that is masked, in
            fifths; diffusion only.
        terms: mean of each term of the loss by name, before its weight; None where there is one alone.
    """

    step: int
    steps: int  # since the line before
    seconds: float
    tokens: int  # since this process began, padding aside
    loss: float
    loss_masked: float | None
    loss_copied: float | None
    learning_rate: float
    gradient_norm: float
    loss_by_ratio: tuple[float | None, ...] | None = None
    terms: Mapping[str, float | None] | None = None


def train_model(
    model: "PreTrainedModel",
    stream: ExampleStream,
    settings: TrainSettings,
    *,
    folder: Path,
    on_step: Callable[[StepMetrics], None],
    on_step_end: Callable[[int], None] = lambda step: None,
    should_stop: Callable[[int], bool] = lambda step: False,
) -> None:
    """Train in place; goes on from the newest complete checkpoint in `folder`.

    Args:
        model: float32 weights; may carry an adapter.
        stream: every exposure of the run.
        settings: of the optimizer and the hardware.
        folder: for checkpoints; made on first need.
        on_step: told of every step.
        on_step_end: called after every step with the step, with the model at rest; its time is not counted.
        should_stop: called after every step, before it; True ends the training. Its time counts.

    Raises:
        RunError: the loss is not finite, or a checkpoint cannot be written.
        ConfigError: the newest checkpoint is that of another strategy.
        InterruptionError: SIGTERM or SIGINT came; the step was finished and its checkpoint written.
    """
    examples = _first_scored(stream)
    collate = choose_layout(model, examples, settings)
    usual = model.config._attn_implementation
    with contextlib.ExitStack() as while_training:
        noted = while_training.enter_context(noting_signals())
        while_training.enter_context(going_by(model, own_forward(model)))
        if settings.gradient_checkpointing:
            selective = settings.gradient_checkpointing == "selective"
            while_training.enter_context(checkpointed_layers(model, keep_products=selective))
        at_end = StepEndCallback(model, noted, on_step_end=on_step_end, should_stop=should_stop)
        trainer = _Trainer(
            model=model,
            args=make_arguments(settings, stream, folder, model.device),
            stream=stream,
            settings=settings,
            collate=collate,
            on_step=on_step,
            denoises=diffusion_form(model.config) is not None,
            at_end=at_end,
        )
        while_training.enter_context(using_attention(model, PACKED if collate.func is pack else usual))
        cut = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        if settings.compile:
            while_training.enter_context(compiled_layers(model))
        elif settings.bf16 and model.device.type == "cpu" and not cut:
            first = move_batch(collate(examples), model.device)
            while_training.enter_context(memory_efficient_layers(model, score=partial(_score, model, first)))
        last = _go_on(trainer, folder)
        if is_sharded(model):
            make_whole(model, trainer.accelerator.get_state_dict(trainer.model_wrapped))
    model.eval()
    # Of one that came after the last step, `at_end` knows nothing.
    signal = at_end.signal or noted.number
    if signal:
        raise InterruptionError(signal, step=last)


def _go_on(trainer: "_Trainer", folder: Path) -> int:
    """Train from the newest checkpoint; the step at which training ended."""
    # One process looks, as looking may move folders.
    found = find_checkpoint(folder) if is_first() else None
    step = ask_first(read_manifest(found).step if found else 0)
    checkpoint = folder / f"checkpoint-{step}" if step else None
    if checkpoint:
        refuse_other_strategy(checkpoint, fsdp=trainer.is_fsdp_enabled)
    if checkpoint and read_manifest(checkpoint).the_end:
        trainer._load_from_checkpoint(str(checkpoint))
        return step
    trainer.resume_at(step)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return int(trainer.state.global_step)


def _first_scored(stream: ExampleStream) -> list[Example]:
    """Two examples to try the model with; a diffusion example may by chance have nothing masked."""
    first = (stream[place] for place in range(min(100, len(stream))))
    return list(islice((example for example in first if any(example.masked)), 2)) or [stream[0]]


def choose_layout(
    model: "PreTrainedModel", examples: Sequence[Example], settings: TrainSettings
) -> "partial[Batch]":
    """Pack examples where this model scores them so exactly as it does apart, else pad them.

    Raises:
        ModelError: logits cannot be computed for the scored positions alone.
    """
    form = diffusion_form(model.config)
    shift = form.alignment if form else 1
    in_rows = partial(pad, pad_id=settings.pad_id, shift=shift)
    in_one_row = partial(pack, shift=shift)
    padded, packed = (move_batch(put(examples), model.device) for put in (in_rows, in_one_row))
    check_target_logits(model, padded)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=settings.bf16):
        exact = packing_is_exact(model, packed, padded, tolerance=PACKING_TOLERANCE[settings.bf16])
    return in_one_row if exact else in_rows


@torch.no_grad()
def _score(model: "PreTrainedModel", batch: Batch) -> torch.Tensor:
    with torch.autocast(model.device.type, torch.bfloat16):
        return score_targets(model, batch, head_of=model).nats_N


class _Trainer(Trainer):
    """The Trainer with our order of examples and our loss."""

    def __init__(
        self,
        *,
        stream: ExampleStream,
        settings: TrainSettings,
        collate: Collate,
        on_step: Callable[[StepMetrics], None],
        denoises: bool,
        at_end: StepEndCallback,
        **rest: Any,
    ) -> None:
        super().__init__(**rest, train_dataset=stream, callbacks=[at_end])
        compute_as_whole(self)
        self._at_end = at_end
        self.model_accepts_loss_kwargs = True  # the loss is divided here, not by accumulation
        self._stream = stream
        self._settings = settings
        self._on_step = on_step
        first = Term("cross-entropy", cross_entropy(never=never_written(rest["model"])))
        self._terms = (first, *settings.more_terms)
        self._collate = collate
        self._begun = time.monotonic()
        self._tally: list[Tally] = []
        self._bins = _RATIO_BINS if denoises else 0
        self._tokens = 0
        self._logged = 0

    def resume_at(self, step: int) -> None:
        """Counts go on from this step."""
        self._logged = step

    def get_train_dataloader(self) -> DataLoader[Any]:
        # Of each run of as many micro-batches as there are ranks, accelerate gives every rank one.
        parts = self._settings.accumulation * self.accelerator.num_processes
        places: Any = cut_micro_batches(self._stream, accumulation=parts)
        loader: DataLoader[Any] = DataLoader(
            self._stream,  # type: ignore[arg-type]
            batch_sampler=places,
            collate_fn=self._collate,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Constant after a linear warm-up, whose first step already moves (transformers' own does not)."""
        if self.lr_scheduler is None:
            warmup = max(1, round(WARMUP_SHARE * num_training_steps))
            decay = max(1, round(self._settings.decay * num_training_steps))
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                cast("torch.optim.Optimizer", optimizer or self.optimizer),
                lambda step: min(
                    1.0,
                    (step + 1) / warmup,
                    (num_training_steps - step) / decay if self._settings.decay else 1.0,
                ),
            )
        return self.lr_scheduler

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        batch = cast("Batch", inputs)
        # Accelerate does this for every wrapper but FSDP's.
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self._settings.bf16):
            scored = predict_targets(model, batch, head_of=self.accelerator.unwrap_model(model))
            parts = apply_terms(self._terms, scored, only=batch["present"])
        self._tally.append(count(self._terms, parts, batch, bins=self._bins))
        tokens_S = batch["stands_for"] if num_items_in_batch is None else num_items_in_batch
        # The Trainer averages gradients over ranks, and `tokens_S` counts those of all ranks.
        loss = combine(self._terms, parts, cast("torch.Tensor", tokens_S))
        return loss * float(self.accelerator.num_processes)

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """The micro-batches of a step, and how many tokens of each source it stands for, over all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        tokens_S = torch.stack([batch["stands_for"] for batch in batches]).sum(dim=0).to(device)
        return batches, self._at_end.hear(self.accelerator.gather(self._at_end.tell(tokens_S)))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._tally:
            self._report(logs)

    def _report(self, logs: Mapping[str, float]) -> None:
        tally, self._tally = self._tally, []
        losses = add_up(tally, over_all=self._add_over_ranks)
        self._tokens += losses.tokens
        step = StepMetrics(
            step=self.state.global_step,
            steps=self.state.global_step - self._logged,
            seconds=round(time.monotonic() - self._begun - self._at_end.seconds, 3),
            tokens=self._tokens,
            loss=sum(
                term.weight * (mean or 0.0) for term, mean in zip(self._terms, losses.terms, strict=True)
            ),
            loss_masked=losses.masked,
            loss_copied=losses.copied,
            learning_rate=float(logs.get("learning_rate", 0.0)),
            gradient_norm=float(logs.get("grad_norm", 0.0)),
            loss_by_ratio=losses.by_ratio or None,
            terms=dict(zip((term.name for term in self._terms), losses.terms, strict=True))
            if len(self._terms) > 1
            else None,
        )
        if not math.isfinite(step.loss):
            raise RunError(
                f"step {step.step}: the loss is {step.loss}; lower train.learning_rate "
                f"(now {self._settings.learning_rate}) or set train.precision=fp32"
            )
        self._logged = step.step
        self._on_step(step)

    def _add_over_ranks(self, numbers: list[float]) -> list[float]:
        if self.accelerator.num_processes == 1:
            return numbers
        mine = torch.tensor(numbers, dtype=torch.float64, device=self.accelerator.device)
        return cast("torch.Tensor", self.accelerator.reduce(mine, "sum")).tolist()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(str(self.args.output_dir))
        checkpoint = folder / f"checkpoint-{self.state.global_step}"
        with whole_or_removed(checkpoint):
            super()._save_checkpoint(model, trial)
            # Each process writes files of its own. Who waits in vain removes them: another's disk is full,
            # and a slow process would leave the folder that the other has just removed.
            self.accelerator.wait_for_everyone()
        if not self.args.should_save:
            return
        with whole_or_removed(checkpoint):
            write_manifest(checkpoint, the_end=self._at_end.enough, processes=self.accelerator.num_processes)
        prune_checkpoints(folder, keep=self._settings.keep)
