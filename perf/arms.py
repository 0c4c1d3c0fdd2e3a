"""The programs that perf/training.py compares: each takes the same examples and the same steps."""

import argparse
import gc
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import Gate
from shapes import SHAPES, Sample

LEARNING_RATE = {"full": 1e-4, "lora": 1e-3, "qlora": 1e-3}


def work(options: argparse.Namespace) -> None:
    """Be one arm."""
    samples = json.loads(options.samples.read_text(encoding="utf-8"))
    gate = Gate()
    match options.worker:
        case "demask" | "demask, compiled" | "demask, selective" as arm:
            train_demask(options, samples, gate, arm=arm)
        case "plain loop":
            train_plainly(options, samples, gate)
        case arm:
            train_trl(options, samples, gate, tuned=arm == "TRL, tuned")


def load(options: argparse.Namespace) -> Any:
    """The model in float32; with an adapter its own weights are as demask keeps them (docs/adapters.md)."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from demask.models.embedded import fetch_embedded_model
    from demask.models.load import choose_device

    device = choose_device(options.device)
    frozen = options.method != "full"
    dtype = torch.bfloat16 if frozen and device.type == "cuda" else torch.float32
    model: Any
    if options.shape is None:
        model = AutoModelForCausalLM.from_pretrained(fetch_embedded_model(), dtype=dtype)
    else:
        width, layers, heads, kv_heads, mlp, vocabulary = SHAPES[options.shape]
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            intermediate_size=mlp,
            vocab_size=vocabulary,
            max_position_embeddings=8192,
            tie_word_embeddings=width < 4096,
        )
        with device:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if options.method == "qlora":
        from demask.models.quantised import quantise_layers

        compute = torch.bfloat16 if options.precision == "bf16" else torch.float32
        quantise_layers(model, device, compute=compute)
    if frozen:
        from demask.training.export import add_adapter

        model = add_adapter(model, rank=32, seed=0)
    model.to(device)
    return model


class Recorded:
    """Samples in the place of the exposures of a run."""

    def __init__(self, samples: Sequence[Sample], batch: int) -> None:
        self.samples, self.batch_size, self.steps = samples, batch, len(samples) // batch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Any:
        from demask.records import Example

        sample = self.samples[place]
        ids, labels, masked = (tuple(sample[key]) for key in ("input_ids", "labels", "masked"))
        return Example(str(place), ids, labels, tuple(map(bool, masked)))


def train_demask(options: argparse.Namespace, samples: Sequence[Sample], gate: Gate, *, arm: str) -> None:
    """As `demask inject` trains; selective: all but products and attention is computed twice and not kept."""
    from demask.models.precision import keep_freed_memory
    from demask.training.trainer import TrainSettings, train_model

    keep_freed_memory()  # as loading a model with demask does
    stream: Any = Recorded(samples, options.batch)
    losses: list[float] = []
    settings = TrainSettings(
        learning_rate=LEARNING_RATE[options.method],
        accumulation=1,
        save_every=10**6,
        bf16=options.precision == "bf16",
        pad_id=0,
        seed=0,
        compile=arm == "demask, compiled",
        gradient_checkpointing="selective" if arm == "demask, selective" else False,
        log_every=1,  # as the others do
    )
    model = load(options)
    gate.wait()
    with tempfile.TemporaryDirectory() as folder:
        train_model(
            model,
            stream,
            settings,
            folder=Path(folder),
            on_step=lambda step: losses.append(step.loss),
            on_step_end=lambda step: finish_or_wait(gate, step, len(samples) // options.batch, losses),
        )


def finish_or_wait(gate: Gate, step: int, steps: int, losses: list[float]) -> None:
    """After the last step the worker waits once more and then says what it has seen."""
    gate.step()
    if step == steps:
        gate.finish(losses=losses)


def train_plainly(options: argparse.Namespace, samples: Sequence[Sample], gate: Gate) -> None:
    """The best loop that fits on a screen: padded rows, logits of scored positions, fused AdamW."""
    import torch
    from torch.nn.functional import cross_entropy

    model = load(options).train()
    inner = model if options.method == "full" else model.get_base_model()
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=LEARNING_RATE[options.method], betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    losses: list[float] = []
    gate.wait()
    for start in range(0, len(samples), options.batch):
        batch = samples[start : start + options.batch]
        length = max(len(sample["input_ids"]) for sample in batch)
        ids = torch.tensor([s["input_ids"] + [0] * (length - len(s["input_ids"])) for s in batch])
        labels = torch.tensor([s["labels"] + [-100] * (length - len(s["labels"])) for s in batch])
        ids, labels = ids.to(model.device), labels.to(model.device)[:, 1:]
        with torch.autocast(model.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            hidden = inner.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
            scored = labels != -100
            loss = cross_entropy(inner.lm_head(hidden[scored]).float(), labels[scored])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        gate.step()
    gate.finish(losses=losses)


def train_trl(options: argparse.Namespace, samples: Sequence[Sample], gate: Gate, *, tuned: bool) -> None:
    """TRL's SFTTrainer on the same ids and labels, in the same order."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from transformers.utils.import_utils import is_flash_attn_2_available
    from trl import SFTConfig, SFTTrainer

    from demask.models.load import load_tokenizer

    steps = len(samples) // options.batch

    class Report(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            losses = [row["loss"] for row in state.log_history if "loss" in row]
            finish_or_wait(gate, state.global_step, steps, losses)

    model = load(options)
    paged = options.method == "qlora" and model.device.type == "cuda"  # as demask's
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=options.batch,
            learning_rate=LEARNING_RATE[options.method],
            lr_scheduler_type="constant",
            adam_beta2=0.95,
            weight_decay=0.1,
            max_grad_norm=1.0,
            optim="paged_adamw_32bit" if paged else "adamw_torch_fused",
            bf16=options.precision == "bf16",
            use_cpu=model.device.type == "cpu",
            gradient_checkpointing=not tuned,
            padding_free=tuned and model.device.type == "cuda" and is_flash_attn_2_available(),
            max_length=None,
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        data = Dataset.from_list([{key: s[key] for key in ("input_ids", "labels")} for s in samples])
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=data,
            processing_class=load_tokenizer(options.tokenizer),
            callbacks=[Report()],
        )
        gc.collect()
        gate.wait()
        trainer.train()
