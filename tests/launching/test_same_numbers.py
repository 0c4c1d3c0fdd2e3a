"""The same losses, weights and counts on one process or four, whole (DDP) or sharded (FSDP2), over gloo."""

import faulthandler
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from demask.errors import ConfigError, InterruptionError
from demask.launching.strategies import strategy_variables
from demask.objectives.batches import count_supervised
from demask.records import IGNORE_INDEX, Example, Passage
from demask.training.stream import ExposureStream
from demask.training.trainer import check_strategy

# Fresh processes that have imported torch already.
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = [
    "demask.training.trainer",
    "demask.training.export",
    "peft",
    "transformers.models.llama.modeling_llama",
    "accelerate.utils.fsdp_utils",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint.state_dict",
]
LENGTHS = (7, 19, 11, 24, 9, 14, 30)
STEPS, BATCH = 10, 6


@dataclass(frozen=True)
class Case:
    """How a model is trained."""

    folder: Path
    ranks: int = 1
    strategy: str = "ddp"
    accumulation: int = 1
    stops: int | None = None  # the step at which the last process gets SIGTERM
    lora: bool = False
    bf16: bool = False
    twice: bool | Literal["selective"] = False  # gradient checkpointing
    tied: bool = True
    weights: str = "all"


def make_example(passage: Passage, epoch: int, variant: int) -> Example:
    """Of the length that the passage is named by; the first tokens are a prompt."""
    length = LENGTHS[int(passage.id)]
    tokens = tuple(5 + (7 * place + 3 * length + epoch) % 40 for place in range(length))
    labels = (*[IGNORE_INDEX] * (length // 2), *tokens[length // 2 :])
    masked = tuple(label != IGNORE_INDEX and place % 2 == 0 for place, label in enumerate(labels))
    return Example(passage.id, tokens, labels, masked)


def make_stream() -> "ExposureStream[Passage]":
    passages = [Passage(str(number), str(number), "") for number in range(len(LENGTHS))]
    return ExposureStream(passages, LENGTHS, make_example, variants=1, batch_size=BATCH, steps=STEPS, seed=0)


def train(case: Case, rank: int, port: int) -> None:
    """In a process of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from demask.models.trained_weights import freeze_others
    from demask.training.export import add_adapter
    from demask.training.step_metrics import StepMetrics
    from demask.training.trainer import TrainSettings, train_model

    faulthandler.enable()  # a crash in native code says where
    torch.set_num_threads(1)
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": case.ranks, "LOCAL_WORLD_SIZE": case.ranks}
    if case.ranks > 1:
        os.environ |= {name: str(value) for name, value in environment.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        os.environ |= strategy_variables(case.strategy)
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
    }
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(**sizes, **heads, tie_word_embeddings=case.tied, pad_token_id=0)
    model: Any = LlamaForCausalLM(config)
    if case.lora:
        model = add_adapter(model, rank=4, seed=0)
    freeze_others(model, case.weights)
    rows: list[StepMetrics] = []
    settings = TrainSettings(
        1e-3, case.accumulation, 4, case.bf16, pad_id=0, seed=0, gradient_checkpointing=case.twice
    )

    def on_step_end(step: int) -> None:
        if step == case.stops and rank == case.ranks - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with suppress(InterruptionError):
        train_model(
            model,
            make_stream(),
            settings,
            folder=case.folder / "checkpoints",
            on_step=rows.append,
            on_step_end=on_step_end,
        )
    if rank == 0:
        weights = {name: weight.detach() for name, weight in model.named_parameters()}
        kind = type(model.get_base_model() if case.lora else model).__name__
        torch.save(
            {"rows": [vars(row) for row in rows], "weights": weights, "kind": kind}, case.folder / "out.pt"
        )
    if case.ranks > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


Train = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def known() -> dict[Case, dict[str, Any]]:
    """What one process trained, which several tests compare with."""
    return {}


@pytest.fixture
def trained(tmp_path: Path, known: dict[Case, dict[str, Any]]) -> Train:
    """Train a case; what rank 0 had in the end. Of one process alone each case is trained once."""
    PROCESSES.set_forkserver_preload(PRELOADED)

    def start(name: str = "run", **how: Any) -> dict[str, Any]:
        case = Case(tmp_path / name, **how)
        asked = replace(case, folder=Path())
        if asked in known:
            return known[asked]
        case.folder.mkdir(exist_ok=True)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        ranks = [PROCESSES.Process(target=train, args=(case, rank, port)) for rank in range(case.ranks)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(120)
        codes = [rank.exitcode for rank in ranks]
        assert -signal.SIGSEGV not in codes, f"killed by SIGSEGV: {codes}"  # is tried once more
        assert codes == [0] * case.ranks
        out: dict[str, Any] = torch.load(case.folder / "out.pt")
        if case.ranks == 1:
            known[asked] = out
        return out

    return start


def assert_same(
    found: dict[str, Any], expected: dict[str, Any], *, within: float = 1e-4, counts: bool = True
) -> None:
    """In losses, gradients and token counts of every step, and in weights."""
    assert len(found["rows"]) == len(expected["rows"])
    for mine, theirs in zip(found["rows"], expected["rows"], strict=True):
        for name in ("loss", "loss_masked", "loss_copied", "gradient_norm"):
            assert mine[name] == pytest.approx(theirs[name], abs=within), (name, mine["step"])
        for name in ("step", "steps", "learning_rate", *(["tokens"] if counts else [])):
            assert mine[name] == theirs[name]
    assert found["weights"].keys() == expected["weights"].keys()
    for name, weight in expected["weights"].items():
        assert type(found["weights"][name].data) is torch.Tensor, "a part, not the whole"
        torch.testing.assert_close(found["weights"][name], weight, atol=within, rtol=0)
    assert found["kind"] == expected["kind"]


# Each way once with the strategy that does most with it; a pair takes up to ten seconds.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "how"),
    [
        ("ddp", {}),
        ("ddp", {"lora": True}),
        ("ddp", {"bf16": True}),
        ("fsdp", {}),
        ("fsdp", {"tied": False}),
        ("fsdp", {"lora": True}),
        ("fsdp", {"twice": True, "lora": True}),
        ("fsdp", {"twice": "selective"}),
        ("ddp", {"weights": "layers 1-1"}),
        ("fsdp", {"weights": "mlp-and-values"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "full",
)
def test_two_processes_train_as_one_does(trained: Train, strategy: str, how: dict[str, Any]) -> None:
    alone = trained("alone", accumulation=2, **how)
    # In bf16 a gradient that is added up in another order is rounded in another way.
    assert_same(
        trained("two", ranks=2, strategy=strategy, **how), alone, within=2e-2 if "bf16" in how else 1e-4
    )


# Sharded ones go on, four of them, in the last of these tests.
@pytest.mark.slow
def test_four_processes_share_six_examples(trained: Train) -> None:
    alone = trained("alone")
    assert len(alone["rows"]) == STEPS
    assert_same(trained("four", ranks=4), alone)


def test_two_processes_log_and_count_for_both(trained: Train) -> None:
    found = trained(ranks=2)
    assert_same(found, trained("alone"))
    stream = make_stream()
    tokens = sum(len(stream[place].token_ids) for place in range(len(stream)))
    assert found["rows"][-1]["tokens"] == tokens
    assert all(count_supervised(stream[place]) for place in range(len(stream)))


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "other"), [("ddp", "fsdp"), ("fsdp", "ddp")])
def test_a_run_stops_on_all_processes_and_goes_on_with_others(
    trained: Train, strategy: str, other: str
) -> None:
    whole = trained("whole")
    first = trained("run", ranks=2, strategy=strategy, stops=5)
    assert 5 <= first["rows"][-1]["step"] < STEPS, "the signal came to one of them"
    rest = trained("run", ranks=4, strategy=other)
    assert rest["rows"][-1]["step"] == STEPS
    assert_same({**rest, "rows": [*first["rows"], *rest["rows"]]}, whole, counts=False)
    # Killed between the last checkpoint and the model that is stored.
    assert_same(trained("run", ranks=4, strategy=strategy), {**rest, "rows": []}, within=0)


@pytest.mark.parametrize("deepspeed", [True, False])
def test_checkpoints_of_deepspeed_and_of_others_are_refused_in_a_line(
    tmp_path: Path, deepspeed: bool
) -> None:
    (tmp_path / ("state.pt" if deepspeed else "deepspeed")).touch()
    with pytest.raises(ConfigError, match=r"has no .* launch.strategy=deepspeed .* delete .* to train anew"):
        check_strategy(tmp_path, deepspeed=deepspeed)
    check_strategy(tmp_path, deepspeed=not deepspeed)
