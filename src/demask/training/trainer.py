"""Train a model on a stream of examples, on `transformers.Trainer`.

    train_model(model, stream, settings, folder=run / "checkpoints", on_step=print)

Ours are the order of examples, the loss and the checks; FSDP, DeepSpeed, several nodes and the
optimizer come with the Trainer. The loss of a step is the sum of weighted nats over all its
micro-batches, divided once by the number of tokens that it stands for: accumulation changes memory, not
results. Several ranks share the micro-batches of a step and train the same weights; `demask inject` still
refuses them, as its run folder has one writer.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from demask.errors import RunError
from demask.models.compiling import compiled_layers
from demask.models.diffusion import diffusion_form
from demask.models.packing import PACKED, using_attention
from demask.models.target_logits import TargetNats, check_target_logits, packing_is_exact, score_targets
from demask.objectives.batches import Batch, move_batch, pack, pad
from demask.objectives.token_loss import TokenLoss, sum_loss
from demask.records import Example
from demask.training.checkpoints import checkpoint_step, find_checkpoint, is_the_end, mark_complete
from demask.training.sampler import ExposureStream, cut_micro_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Pan et al. 2025, section 5 of our notes: betas, decay (not on norms and biases), warm-up, clipping.
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
WARMUP_SHARE = 0.02
CLIP_NORM = 1.0
# Nats per token by which packed and padded examples may differ: by the order of sums in float32, by
# rounding in bfloat16. Ours, with room; an example that sees another differs by far more than the first.
PACKING_TOLERANCE = {False: 1e-2, True: 0.25}
_RATIO_BINS = 5


Collate = Callable[[Sequence[Example]], Batch]


@dataclass(frozen=True)
class StepMetrics:
    """What is logged of a step; losses in nats per token, None where no such token was scored.

    Attributes:
        loss: what is minimised; in diffusion weighted, and over all tokens that might have been masked:
            the bound on -log p per token.
        loss_masked: of masked tokens, unweighted.
        loss_copied: of the tokens that the prompt shows.
        loss_by_ratio: of masked tokens, unweighted, by the share of their example that is masked, in
            fifths; diffusion only.
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


@dataclass(frozen=True)
class TrainSettings:
    """The numbers that the trainer needs; all resolved, nothing is left to choose."""

    learning_rate: float
    accumulation: int
    save_every: int
    bf16: bool
    pad_id: int
    seed: int
    decay: float = 0.0  # share of the steps, at their end, over which the learning rate falls to zero
    compile: bool = False  # the layers, by torch.compile
    log_every: int | None = None  # steps; None: every one on CPU, every tenth elsewhere


def train_model(
    model: "PreTrainedModel",
    stream: ExposureStream,
    settings: TrainSettings,
    *,
    folder: Path,
    on_step: Callable[[StepMetrics], None],
    after_step: Callable[[int], None] = lambda step: None,
    is_enough: Callable[[int], bool] = lambda step: False,
) -> None:
    """Train in place; goes on from the newest complete checkpoint in `folder`.

    Args:
        model: float32 weights; may carry an adapter.
        stream: every exposure of the run.
        settings: of the optimizer and the hardware.
        folder: for checkpoints; made on first need.
        on_step: told of every step.
        after_step: called after every step with the step, with the model at rest; its time is not counted.
        is_enough: called after every step, before it; True ends the training. Its time counts.

    Raises:
        RunError: the loss is not finite, or a checkpoint cannot be written.
    """
    collate = choose_layout(model, _first_scored(stream), settings)
    usual = model.config._attn_implementation

    watcher = _AfterStep(model, usual, after_step=after_step, is_enough=is_enough)

    trainer = _Trainer(
        model=model,
        args=_arguments(settings, stream, folder, model.device),
        stream=stream,
        settings=settings,
        collate=collate,
        on_step=on_step,
        denoises=diffusion_form(model.config) is not None,
        watcher=watcher,
    )
    checkpoint = find_checkpoint(folder)
    if checkpoint and is_the_end(checkpoint):
        trainer._load_from_checkpoint(str(checkpoint))
        model.eval()
        return
    trainer.resume_at(checkpoint_step(folder))
    layers = compiled_layers(model) if settings.compile else contextlib.nullcontext()
    with using_attention(model, PACKED if collate.func is pack else usual), layers:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    model.eval()


def _first_scored(stream: ExposureStream) -> list[Example]:
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


def _arguments(
    settings: TrainSettings, stream: ExposureStream, folder: Path, device: torch.device
) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=stream.steps,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=CLIP_NORM,
        optim="adamw_torch_fused",
        bf16=settings.bf16,
        use_cpu=device.type == "cpu",
        seed=settings.seed,
        # Reading a loss waits for the GPU.
        logging_steps=settings.log_every or (1 if device.type == "cpu" else 10),
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2,  # the one being written and the last good one
        average_tokens_across_devices=True,
        accelerator_config={"even_batches": False},  # all are there, and they have no common size
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
    )
    # A second GPU in the machine would otherwise be taken by nn.DataParallel, which splits batches.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


class _Trainer(Trainer):
    """The Trainer with our order of examples and our loss."""

    def __init__(
        self,
        *,
        stream: ExposureStream,
        settings: TrainSettings,
        collate: Collate,
        on_step: Callable[[StepMetrics], None],
        denoises: bool,
        watcher: "_AfterStep",
        **rest: Any,
    ) -> None:
        super().__init__(**rest, train_dataset=stream, callbacks=[watcher])
        self._watcher = watcher
        self.model_accepts_loss_kwargs = True  # the loss is divided here, not by accumulation
        self._stream = stream
        self._settings = settings
        self._on_step = on_step
        self._collate = collate
        self._begun = time.monotonic()
        self._tally: list[_Tally] = []
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
        scored = score_targets(model, batch, head_of=self.accelerator.unwrap_model(model))
        weighted = (scored.nats_N * batch["weights"]).sum()
        self._tally.append(_count(scored, batch, weighted, bins=self._bins))
        tokens = batch["supervised"].sum() if num_items_in_batch is None else num_items_in_batch
        # The Trainer averages gradients over ranks, and `tokens` counts those of all ranks.
        loss: torch.Tensor = weighted / tokens * self.accelerator.num_processes
        return loss

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """The micro-batches of a step, and how many tokens its loss stands for, over all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        tokens = torch.stack([batch["supervised"].sum() for batch in batches]).sum().to(device)
        return batches, self.accelerator.gather(tokens).sum()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._tally:
            self._report(logs)

    def _report(self, logs: Mapping[str, float]) -> None:
        tally, self._tally = self._tally, []
        self._tokens += sum(int(part.tokens) for part in tally)
        step = StepMetrics(
            step=self.state.global_step,
            steps=self.state.global_step - self._logged,
            seconds=round(time.monotonic() - self._begun - self._watcher.seconds, 3),
            tokens=self._tokens,
            loss=_mean([part.whole for part in tally]) or 0.0,
            loss_masked=_mean([part.masked for part in tally]),
            loss_copied=_mean([part.copied for part in tally]),
            learning_rate=float(logs.get("learning_rate", 0.0)),
            gradient_norm=float(logs.get("grad_norm", 0.0)),
            loss_by_ratio=tuple(map(_mean, zip(*(part.by_ratio for part in tally), strict=True))) or None,
        )
        if not math.isfinite(step.loss):
            raise RunError(
                f"step {step.step}: the loss is {step.loss}; lower train.learning_rate "
                f"(now {self._settings.learning_rate}) or set train.precision=fp32"
            )
        self._logged = step.step
        self._on_step(step)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            mark_complete(folder, the_end=self._watcher.enough)
        # On a full disk torch.save raises RuntimeError.
        except (OSError, RuntimeError, SafetensorError) as error:
            raise RunError(
                f"{self.args.output_dir}: the checkpoint of step {self.state.global_step} cannot be written "
                f"({error}); free some space and start the same command again"
            ) from error


class _AfterStep(TrainerCallback):
    """Who looks on; `seconds` is what looking took, which is no training."""

    def __init__(
        self,
        model: "PreTrainedModel",
        attention: str,
        *,
        after_step: Callable[[int], None],
        is_enough: Callable[[int], bool],
    ) -> None:
        self._model, self._attention = model, attention
        self._after_step, self._is_enough = after_step, is_enough
        self.enough, self.seconds = False, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        with using_attention(self._model, self._attention):
            self.enough = self._is_enough(state.global_step)
            begun = time.monotonic()
            self._after_step(state.global_step)
            self.seconds += time.monotonic() - begun
        control.should_training_stop |= self.enough
        if self.enough or state.global_step >= state.max_steps or state.global_step % args.save_steps == 0:
            # What is saved has been checked for finite losses, and the log goes as far as the checkpoint.
            control.should_log = True
            control.should_save |= self.enough


class _Tally(NamedTuple):
    """What a micro-batch adds to the log."""

    whole: TokenLoss  # weighted, and for all tokens that it stands for
    masked: TokenLoss
    copied: TokenLoss
    by_ratio: tuple[TokenLoss, ...]
    tokens: torch.Tensor


def _count(scored: TargetNats, batch: Batch, weighted: torch.Tensor, *, bins: int) -> _Tally:
    nats_N = scored.nats_N.detach()
    bin_N = (batch["shares"] * bins).long().clamp(max=bins - 1)
    return _Tally(
        whole=TokenLoss(weighted.detach(), batch["supervised"].sum()),
        masked=sum_loss(nats_N, scored.masked_N),
        copied=sum_loss(nats_N, ~scored.masked_N),
        by_ratio=tuple(sum_loss(nats_N, scored.masked_N & (bin_N == number)) for number in range(bins)),
        tokens=batch["lengths"].sum(),
    )


def _mean(parts: Iterable[TokenLoss]) -> float | None:
    parts = list(parts)
    nats = sum(float(part.nats) for part in parts)
    tokens = sum(int(part.tokens) for part in parts)
    return nats / tokens if tokens else None
