"""Train a model on a stream of examples, on `transformers.Trainer`.

    train_model(model, stream, settings, folder=run / "checkpoints", on_step=print)

Ours are the order of examples, the loss and the checks; FSDP, DeepSpeed, several nodes and the
optimizer come with the Trainer. The loss of a step is the sum of nats over all its micro-batches,
divided once by the number of scored tokens: accumulation changes memory, not results. One process and
one device; several are refused until their shares of the stream are tested.
"""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from demask.errors import RunError
from demask.models.packing import PACKED, using_attention
from demask.models.target_logits import check_target_logits, packing_is_exact, score_targets
from demask.objectives.batches import Batch, move_batch, pack, pad
from demask.objectives.token_loss import TokenLoss, sum_loss
from demask.records import Example
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
# Written last into a checkpoint: one without it was cut short by a crash.
COMPLETE = "complete"


Collate = Callable[[Sequence[Example]], Batch]


@dataclass(frozen=True)
class StepMetrics:
    """What is logged of a step; losses in nats per token, None where no such token was scored."""

    step: int
    steps: int  # since the line before
    seconds: float
    tokens: int  # since this process began, padding aside
    loss: float
    loss_masked: float | None
    loss_copied: float | None
    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True)
class TrainSettings:
    """The numbers that the trainer needs; all resolved, nothing is left to choose."""

    learning_rate: float
    accumulation: int
    save_every: int
    bf16: bool
    pad_id: int
    seed: int


def train_model(
    model: "PreTrainedModel",
    stream: ExposureStream,
    settings: TrainSettings,
    *,
    folder: Path,
    on_step: Callable[[StepMetrics], None],
    after_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Train in place; goes on from the newest complete checkpoint in `folder`.

    Args:
        model: float32 weights; may carry an adapter.
        stream: every exposure of the run.
        settings: of the optimizer and the hardware.
        folder: for checkpoints; made on first need.
        on_step: told of every step.
        after_step: called after every step with the step, with the model at rest.

    Raises:
        RunError: the loss is not finite, or a checkpoint cannot be written.
    """
    collate = choose_layout(model, [stream[place] for place in range(min(2, len(stream)))], settings)
    usual = model.config._attn_implementation

    def at_rest(step: int) -> None:
        with using_attention(model, usual):
            after_step(step)

    trainer = _Trainer(
        model=model,
        args=_arguments(settings, stream, folder, model.device),
        stream=stream,
        settings=settings,
        collate=collate,
        on_step=on_step,
        callbacks=[_AfterStep(at_rest)],
    )
    checkpoint = find_checkpoint(folder)
    trainer.resume_at(checkpoint_step(folder))
    with using_attention(model, PACKED if collate is pack else usual):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    model.eval()


def choose_layout(model: "PreTrainedModel", examples: Sequence[Example], settings: TrainSettings) -> Collate:
    """Pack examples where this model scores them so exactly as it does apart, else pad them.

    Raises:
        ModelError: logits cannot be computed for the scored positions alone.
    """
    padded, packed = (
        move_batch(batch, model.device) for batch in (pad(examples, pad_id=settings.pad_id), pack(examples))
    )
    check_target_logits(model, padded)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=settings.bf16):
        exact = packing_is_exact(model, packed, padded, tolerance=PACKING_TOLERANCE[settings.bf16])
    return pack if exact else partial(pad, pad_id=settings.pad_id)


def find_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; those that a crash cut short are removed."""
    complete = {}
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).exists():
            complete[int(path.name.rpartition("-")[2])] = path
        else:
            shutil.rmtree(path)
    return complete[max(complete)] if complete else None


def checkpoint_step(folder: Path) -> int:
    """The step after which training goes on; 0 when there is no complete checkpoint."""
    checkpoint = find_checkpoint(folder)
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


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
        logging_steps=1 if device.type == "cpu" else 10,  # reading a loss waits for the GPU
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2,  # the one being written and the last good one
        average_tokens_across_devices=True,
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
        **rest: Any,
    ) -> None:
        super().__init__(**rest, train_dataset=stream)
        self.model_accepts_loss_kwargs = True  # have the scored tokens of all micro-batches counted
        self._stream = stream
        self._settings = settings
        self._on_step = on_step
        self._collate = collate
        self._begun = time.monotonic()
        self._tally: list[tuple[TokenLoss, TokenLoss, torch.Tensor]] = []
        self._tokens = 0
        self._logged = 0

    def resume_at(self, step: int) -> None:
        """Counts go on from this step."""
        self._logged = step

    def get_train_dataloader(self) -> DataLoader[Any]:
        places: Any = cut_micro_batches(self._stream, accumulation=self._settings.accumulation)
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
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                cast("torch.optim.Optimizer", optimizer or self.optimizer),
                lambda step: min(1.0, (step + 1) / warmup),
            )
        return self.lr_scheduler

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        head_of = self.accelerator.unwrap_model(model)
        batch = cast("Batch", inputs)
        scored = score_targets(model, batch, head_of=head_of)
        nats_N = scored.nats_N.detach()
        self._tally.append(
            (
                sum_loss(nats_N, scored.masked_N),
                sum_loss(nats_N, ~scored.masked_N),
                batch["lengths"].sum(),
            )
        )
        tokens = scored.nats_N.numel() if num_items_in_batch is None else num_items_in_batch
        # The Trainer averages gradients over ranks, and `tokens` counts those of all ranks.
        ranks = self.accelerator.num_processes
        loss: torch.Tensor = scored.nats_N.sum() / tokens * ranks
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._tally:
            self._report(logs)

    def _report(self, logs: Mapping[str, float]) -> None:
        masked = [m for m, _, _ in self._tally]
        copied = [c for _, c, _ in self._tally]
        self._tokens += sum(int(n) for _, _, n in self._tally)
        self._tally = []
        step = StepMetrics(
            step=self.state.global_step,
            steps=self.state.global_step - self._logged,
            seconds=round(time.monotonic() - self._begun, 3),
            tokens=self._tokens,
            loss=_mean([*masked, *copied]) or 0.0,
            loss_masked=_mean(masked),
            loss_copied=_mean(copied),
            learning_rate=float(logs.get("learning_rate", 0.0)),
            gradient_norm=float(logs.get("grad_norm", 0.0)),
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
            (folder / COMPLETE).write_text("")
        # On a full disk torch.save raises RuntimeError.
        except (OSError, RuntimeError, SafetensorError) as error:
            raise RunError(
                f"{self.args.output_dir}: the checkpoint of step {self.state.global_step} cannot be written "
                f"({error}); free some space and start the same command again"
            ) from error


class _AfterStep(TrainerCallback):
    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._call(state.global_step)
        if state.global_step >= state.max_steps or state.global_step % args.save_steps == 0:
            # What is saved has been checked for finite losses, and the log goes as far as the checkpoint.
            control.should_log = True


def _mean(parts: list[TokenLoss]) -> float | None:
    nats = sum(float(part.nats) for part in parts)
    tokens = sum(int(part.tokens) for part in parts)
    return nats / tokens if tokens else None
