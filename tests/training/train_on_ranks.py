"""Trains a tiny diffusion model on ranks, each in a process of its own; rank 0 stores what came of it."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from demask.models.diffusion import DiffusionForm, set_diffusion_form
from demask.objectives.diffusion import Noise, draw_noise, make_diffusion_example
from demask.objectives.masking import keyed_rng
from demask.records import Example, Passage
from demask.training.step_metrics import StepMetrics
from demask.training.stream import ExposureStream
from demask.training.trainer import TrainSettings, train_model

MASK, LENGTHS = 3, (3, 9, 5, 14, 7, 4)


def make_example(passage: Passage, epoch: int, variant: int) -> Example:
    length = LENGTHS[int(passage.id)]
    rng = keyed_rng(0, passage.id, epoch, variant)
    answer = tuple(5 + (7 * place + length) % 40 for place in range(length))
    masking = draw_noise(rng, length=length, noise=Noise(None))
    return make_diffusion_example((1,), answer, masking, id=passage.id, mask_id=MASK)


def train_on_rank(out: Path, accumulation: int, rank: int, ranks: int, port: int) -> None:
    """In a process of its own: as torchrun starts it."""
    torch.set_num_threads(1)
    if ranks > 1:
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        os.environ |= {name: str(number) for name, number in numbers.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
    }
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=True, pad_token_id=0))
    set_diffusion_form(model.config, DiffusionForm(MASK, alignment=0))
    passages = [Passage(str(number), str(number), "") for number in range(len(LENGTHS))]
    stream = ExposureStream(passages, LENGTHS, make_example, variants=1, batch_size=4, steps=3, seed=0)
    settings = TrainSettings(1e-3, accumulation, 100, bf16=False, pad_id=0, seed=0)
    rows: list[StepMetrics] = []
    train_model(model, stream, settings, folder=out / "checkpoints", on_step=rows.append)
    norms = torch.tensor([row.gradient_norm for row in rows])
    if rank == 0:
        torch.save({**model.state_dict(), "norms": norms}, out / "weights.pt")
    if ranks > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
