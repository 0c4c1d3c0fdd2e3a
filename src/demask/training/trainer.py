"""Train a model on a stream of examples: the loop, and the numbers that it takes.

    settings = TrainSettings(learning_rate=4e-4, accumulation=1, save_every=50, bf16=True, pad_id=0, seed=0)
    train_model(model, stream, settings, folder=run / "checkpoints", on_step=print)

The loss of a step is the sum of weighted nats over all its micro-batches, divided once by the number of
tokens that it stands for: accumulation changes memory, not results. Several processes share the micro-batches
of a step and train the same weights; what is logged is of all. Order, masks and learning rate are functions
of the step, so a checkpoint holds weights, moments and the states of generators, and no place in any data.
"""

import contextlib
import math
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from demask.errors import ConfigError, InterruptionError, RunError
from demask.losses.cross_entropy import cross_entropy
from demask.losses.terms import Term, apply_terms, combine
from demask.models.acceleration.layers import (
    compiled_layers,
    memory_efficient_layers,
    plain_layers,
)
from demask.models.acceleration.packing import PACKED, using_attention
from demask.models.acceleration.target_logits import (
    check_target_logits,
    never_written,
    packing_is_exact,
    predict_targets,
    score_targets,
)
from demask.models.diffusion import diffusion_form
from demask.models.quantised import import_bitsandbytes, is_quantised
from demask.objectives.batches import Batch, move_batch, pack, pad
from demask.records import Example
from demask.signals import Noted, noting_signals
from demask.storage.locks import is_stop_requested
from demask.training.checkpoints import (
    STATE,
    find_checkpoint,
    generator_states,
    prune_checkpoints,
    read_manifest,
    restore_generators,
    restore_state,
    set_generators,
    whole_or_removed,
    write_generators,
    write_manifest,
    write_state,
)
from demask.training.distributed import (
    barrier,
    broadcast,
    is_main_process,
    is_sharded,
    make_accelerator,
    unshard,
)
from demask.training.saving_memory import MemorySavings
from demask.training.step_metrics import MicroBatchSums, StepMetrics, average, sum_micro_batch
from demask.training.stream import ExampleStream, cut_micro_batches

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel

# Pan et al. 2025: betas, decay (not on norms and biases), warm-up, clipping.
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
WARMUP_SHARE = 0.02
CLIP_NORM = 1.0
# Weights without decay by their names, as in `transformers.Trainer`; those of a LayerNorm have none, either.
_UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|[._])norm(?:$|\.)")
# Nats per token by which packed and padded examples may differ: by the order of sums in float32, by
# rounding in bfloat16. Ours, with room; an example that sees another differs by far more than the first.
PACKING_TOLERANCE = {False: 1e-2, True: 0.25}
_RATIO_BINS = 5
_DEEPSPEED = "deepspeed"  # its folder in a checkpoint


Collate = Callable[[Sequence[Example]], Batch]


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
    beta2: float = BETAS[1]
    weight_decay: float = WEIGHT_DECAY
    compile: bool = False  # the layers, by torch.compile
    log_every: int | None = None  # steps; None: every one on CPU, every tenth elsewhere
    # What is in the layers is computed twice and not kept; selective: all but products and attention; auto:
    # no more of it than the memory of a GPU asks for.
    gradient_checkpointing: bool | Literal["selective", "auto"] = False
    keep: int = 2  # complete checkpoints that stay
    more_terms: tuple[Term, ...] = ()  # of the loss, beside the cross-entropy on documents
    say: Callable[[str], None] = lambda line: None  # told where a step did not fit into memory


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
        model: what is trained is float32; may carry an adapter on frozen weights of another dtype, or in four
            bits.
        stream: every exposure of the run.
        settings: of the optimizer and the hardware.
        folder: for checkpoints; made on first need. A file `stop` beside it is as SIGTERM.
        on_step: told of every step.
        on_step_end: called after every step with the step, with the model at rest; its time is not counted.
        should_stop: called after every step, before it; True ends the training. Its time counts.

    Raises:
        RunError: the loss is not finite, or a checkpoint cannot be written.
        ConfigError: the newest checkpoint is that of another strategy.
        InterruptionError: SIGTERM, SIGINT or a request to stop came; the step was finished and its checkpoint
            written.
    """
    examples = _first_scored(stream)
    collate = choose_layout(model, examples, settings)
    usual = model.config._attn_implementation
    with contextlib.ExitStack() as while_training:
        noted = while_training.enter_context(noting_signals())
        torch.manual_seed(settings.seed)
        accelerator = make_accelerator(
            model.device, bf16=settings.bf16, accumulation=settings.accumulation, clip_norm=CLIP_NORM
        )
        savings = MemorySavings(
            model,
            settings.gradient_checkpointing,
            accumulation=settings.accumulation,
            batch_size=stream.batch_size,
            alone=accelerator.num_processes == 1 and not settings.compile,
        )
        while_training.enter_context(savings)
        while_training.enter_context(using_attention(model, PACKED if collate.func is pack else usual))
        cut = accelerator.distributed_type in ("FSDP", "DEEPSPEED")
        if settings.compile:
            while_training.enter_context(compiled_layers(model))
        elif settings.bf16 and model.device.type == "cpu" and not cut:
            first = move_batch(collate(examples), model.device)
            while_training.enter_context(memory_efficient_layers(model, score=partial(_score, model, first)))
        loop = _Loop(model, stream, settings, collate, accelerator, noted, folder, usual, savings)
        loop.restore()
        loop.run(on_step=on_step, on_step_end=on_step_end, should_stop=should_stop)
        if is_sharded(model):
            unshard(model, accelerator.get_state_dict(loop.wrapped))
    model.eval()
    number = loop.signal or noted.number  # that of this process may have come after the last step
    if number:
        raise InterruptionError(number, step=loop.step)


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
def _score(model: "PreTrainedModel", batch: Batch) -> Tensor:
    with torch.autocast(model.device.type, torch.bfloat16):
        return score_targets(model, batch, head_of=model).nats_N


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW on what is trained, with decay on all but norms and biases; beside a base in four bits paged."""
    in_norms = {
        id(w) for part in model.modules() if isinstance(part, nn.LayerNorm) for w in part.parameters()
    }
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weights in model.named_parameters():
        if weights.requires_grad:
            decays = id(weights) not in in_norms and not _UNDECAYED.search(name.lower())
            (decayed if decays else others).append(weights)
    parts = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    betas = (BETAS[0], settings.beta2)
    device = next(model.parameters()).device
    if device.type == "cuda" and is_quantised(model):
        # Moments go to main memory where the GPU's is short (QLoRA).
        paged: torch.optim.AdamW = import_bitsandbytes().optim.PagedAdamW(
            parts, lr=settings.learning_rate, betas=betas
        )
        return paged
    return torch.optim.AdamW(parts, lr=settings.learning_rate, betas=betas, fused=True)


def drop_partial_moments(optimizer: Any) -> None:
    """Forget moments that were being made when memory ended: a step would take them for whole ones."""
    for weights, state in list(optimizer.state.items()):
        if len(state) < len(("step", "first moment", "second moment")):
            del optimizer.state[weights]


def learning_rate_at(step: int, steps: int, settings: TrainSettings) -> float:
    """Constant after a linear warm-up, whose first step already moves (transformers' own does not).

    Args:
        step: from 1.
        steps: of the run.
        settings: of the optimizer.
    """
    warmup = max(1, round(WARMUP_SHARE * steps))
    decay = max(1, round(settings.decay * steps))
    return settings.learning_rate * min(
        1.0, step / warmup, (steps - step + 1) / decay if settings.decay else 1.0
    )


def share_tokens(accelerator: "Accelerator", tokens_S: Tensor, noted: Noted) -> tuple[Tensor, Tensor | None]:
    """What the processes tell each other at every step.

    Args:
        accelerator: whose processes.
        tokens_S: that this process's share of the step stands for, by source.
        noted: the signal that came here.

    Returns:
        Tokens of all processes, and a signal that came to one of them, 0 without; None where there is but
        one process. It stays where it is, as looking at it waits for the GPU.
    """
    if accelerator.num_processes == 1:
        return tokens_S, None
    mine = torch.cat((tokens_S, torch.full_like(tokens_S[:1], noted.number or 0)))
    told = cast("Tensor", accelerator.gather(mine[None]))
    return told[:, :-1].sum(dim=0), told[:, -1].max()


def check_strategy(checkpoint: Path, *, deepspeed: bool) -> None:
    """See that a checkpoint can be read: DeepSpeed's are its own, all others are alike.

    Raises:
        ConfigError: it was written by DeepSpeed and is read by another, or the other way round.
    """
    name = _DEEPSPEED if deepspeed else STATE
    if not (checkpoint / name).exists():
        raise ConfigError(
            f"{checkpoint}: has no {name}; it is of launch.strategy=deepspeed and this is not, or the other "
            f"way round, or of an older demask; go on as before, or delete {checkpoint.parent} to train anew"
        )


@dataclass
class _Loop:
    """One training.

    Attributes:
        usual: the attention that the model came with, and is asked with.
        savings: of memory, more of them when a step does not fit.
        step: the last one that was trained.
        ended: nothing is left to train.
        signal: number of the one that stopped training, on every process the same; None without one.
    """

    model: "PreTrainedModel"
    stream: ExampleStream
    settings: TrainSettings
    collate: Collate
    accelerator: "Accelerator"
    noted: Noted
    folder: Path
    usual: str
    savings: MemorySavings
    step: int = 0
    ended: bool = False
    signal: int | None = None
    _tokens: int = 0
    _sums: list[MicroBatchSums] = field(default_factory=list)
    _told: Tensor | None = None  # the signal of all processes, see `share_tokens`

    def __post_init__(self) -> None:
        optimizer = make_optimizer(self.model, self.settings)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        self.deepspeed = self.accelerator.distributed_type == "DEEPSPEED"
        first = Term("cross-entropy", cross_entropy(never=never_written(self.model)))
        self.terms = (first, *self.settings.more_terms)
        self.bins = _RATIO_BINS if diffusion_form(self.model.config) is not None else 0
        self._cut()

    def _cut(self) -> None:
        """Of each run of as many micro-batches as there are processes, every process has one."""
        ranks = self.accelerator.num_processes
        cut = cut_micro_batches(self.stream, accumulation=self.savings.accumulation * ranks)
        self.micro_batches = cut[self.accelerator.process_index :: ranks]

    def restore(self) -> None:
        """Go on from the newest complete checkpoint, if there is one."""
        # One process looks, as looking may move folders.
        found = find_checkpoint(self.folder) if is_main_process() else None
        self.step = broadcast(read_manifest(found).step if found else 0)
        if not self.step:
            return
        checkpoint = self.folder / f"checkpoint-{self.step}"
        check_strategy(checkpoint, deepspeed=self.deepspeed)
        if self.deepspeed:
            self.wrapped.load_checkpoint(str(checkpoint / _DEEPSPEED), load_module_strict=False)
        else:
            restore_state(checkpoint, self.model, self.optimizer)
        restore_generators(checkpoint)
        self.ended = read_manifest(checkpoint).the_end or self.step >= self.stream.steps

    def run(
        self,
        *,
        on_step: Callable[[StepMetrics], None],
        on_step_end: Callable[[int], None],
        should_stop: Callable[[int], bool],
    ) -> None:
        """Train to the end, or until there is enough or a signal has come."""
        begun, logged = time.monotonic(), self.step
        log_every = self.settings.log_every or (1 if self.model.device.type == "cpu" else 10)
        while not self.ended and not self.signal:
            self.step += 1
            rate, norm = self._train_fitting_step()
            with using_attention(self.model, self.usual), plain_layers(self.model):
                enough = should_stop(self.step)
                called = time.monotonic()
                on_step_end(self.step)
                begun += time.monotonic() - called
            self.ended = enough or self.step >= self.stream.steps
            saves = self.ended or self.step % self.settings.save_every == 0
            # What is saved has been checked for finite losses, and the log goes as far as the checkpoint.
            logs = saves or self.step % log_every == 0
            # Several look only where the log is read, which waits for the GPU anyway.
            if self._told is None or logs:
                self.signal = self.noted.number if self._told is None else int(self._told) or None
            if logs or self.signal:
                losses = self._average()
                seconds = round(time.monotonic() - begun, 3)
                on_step(
                    StepMetrics(
                        step=self.step,
                        steps=self.step - logged,
                        seconds=seconds,
                        learning_rate=rate,
                        gradient_norm=float(norm or 0.0),
                        **losses,
                    )
                )
                logged = self.step
            if saves or self.signal:
                self._save(the_end=enough)

    def _train_fitting_step(self) -> tuple[float, Tensor | float | None]:
        """One update; made again with less memory where it does not fit."""
        if not self.savings.is_able:
            return self._train_step()
        counted, states = len(self._sums), generator_states()
        while True:
            try:
                return self._train_step()
            except torch.OutOfMemoryError as error:
                reason = str(error).partition("\n")[0]
            # Outside of the handler, which holds what the step has left.
            self.wrapped.zero_grad()
            del self._sums[counted:]
            drop_partial_moments(self.optimizer)
            set_generators(states)
            how = self.savings.save_more()
            if how is None:
                raise RunError(
                    f"step {self.step}: does not fit into memory, even in micro-batches of one example whose "
                    f"layers are computed twice ({reason}); use train.method=lora or qlora, or a smaller "
                    "max_tokens"
                )
            self._cut()
            self.settings.say(f"step {self.step} did not fit into memory; from here on {how}")

    def _train_step(self) -> tuple[float, Tensor | float | None]:
        """One update; the learning rate, and the norm of the gradients before clipping."""
        rate = learning_rate_at(self.step, self.stream.steps, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        device, count = self.accelerator.device, self.savings.accumulation
        batches = [
            move_batch(self.collate([self.stream[place] for place in places]), device)
            for places in self.micro_batches[(self.step - 1) * count : self.step * count]
        ]
        tokens_S = torch.stack([batch["stands_for"] for batch in batches]).sum(dim=0)
        if is_main_process() and is_stop_requested(self.folder.parent):
            self.noted.number = self.noted.number or signal.SIGTERM
        tokens_S, self._told = share_tokens(self.accelerator, tokens_S, self.noted)
        self.wrapped.train()
        for number, batch in enumerate(batches, start=1):
            last = self.accelerator.sync_gradients = number == count
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                self._add_gradients(batch, tokens_S)
        norm = self.accelerator.clip_grad_norm_(self.wrapped.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.wrapped.zero_grad()
        return rate, norm

    def _add_gradients(self, batch: Batch, tokens_S: Tensor) -> None:
        """The way forward and backward of a micro-batch."""
        device = self.accelerator.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.settings.bf16):
            scored = predict_targets(self.wrapped, batch, head_of=self.model)
            parts = apply_terms(self.terms, scored, only=batch["present"])
        self._sums.append(sum_micro_batch(self.terms, parts, batch, bins=self.bins))
        # Gradients are averaged over processes, and `tokens_S` counts those of all.
        loss = combine(self.terms, parts, tokens_S) * float(self.accelerator.num_processes)
        self.accelerator.backward(loss, **({"scale_wrt_gas": False} if self.deepspeed else {}))

    def _average(self) -> dict[str, Any]:
        """Losses since the line before, and all tokens; each process must call it."""
        device = self.accelerator.device
        losses = average(self.terms, self._sums, reduce=lambda sums: self.accelerator.reduce(sums.to(device)))
        self._sums.clear()
        self._tokens += losses["tokens"]
        if not math.isfinite(losses["loss"]):
            raise RunError(
                f"step {self.step}: the loss is {losses['loss']}; lower train.learning_rate "
                f"(now {self.settings.learning_rate}) or set train.precision=fp32"
            )
        return losses | {"tokens": self._tokens}

    def _save(self, *, the_end: bool) -> None:
        """Write a checkpoint; each process must call it."""
        checkpoint = self.folder / f"checkpoint-{self.step}"
        with whole_or_removed(checkpoint):
            checkpoint.mkdir(parents=True, exist_ok=True)
            if self.deepspeed:
                self.wrapped.save_checkpoint(str(checkpoint / _DEEPSPEED), exclude_frozen_parameters=True)
            else:
                write_state(checkpoint, self.model, self.optimizer)
            write_generators(checkpoint)
            # Each process writes files of its own. Who waits in vain removes them: another's disk is full,
            # and a slow process would leave the folder that the other has just removed.
            barrier()
        if not is_main_process():
            return
        with whole_or_removed(checkpoint):
            write_manifest(checkpoint, the_end=the_end, processes=self.accelerator.num_processes)
        prune_checkpoints(self.folder, keep=self.settings.keep)
