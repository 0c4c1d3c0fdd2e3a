"""The numbers of a training, and what `transformers.Trainer` is told of them.

arguments = make_arguments(TrainSettings(learning_rate=4e-4, ...), stream, run / "checkpoints", device)
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import TrainingArguments

from demask.losses.terms import Term
from demask.training.sharding import allow_on_cpu
from demask.training.stream import ExampleStream

# Pan et al. 2025, section 5 of our notes: betas, decay (not on norms and biases), warm-up, clipping.
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
WARMUP_SHARE = 0.02
CLIP_NORM = 1.0


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
    # What is in the layers is computed twice and not kept; selective: all but products and attention.
    gradient_checkpointing: bool | Literal["selective"] = False
    keep: int = 2  # complete checkpoints that stay
    more_terms: tuple[Term, ...] = ()  # of the loss, beside the cross-entropy on documents


def make_arguments(
    settings: TrainSettings, stream: ExampleStream, folder: Path, device: torch.device
) -> TrainingArguments:
    """As `transformers.Trainer` takes them."""
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
        average_tokens_across_devices=True,
        accelerator_config={"even_batches": False},  # all are there, and they have no common size
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
    )
    # A second GPU in the machine would otherwise be taken by nn.DataParallel, which splits batches.
    arguments._n_gpu = min(1, arguments.n_gpu)
    allow_on_cpu(arguments)
    return arguments
