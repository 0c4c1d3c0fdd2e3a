"""The ways to train that perf/knowledge.py compares: a slice of one, or what it kept, in its own process.

    train_slice(ARMS["fast"], options)          # goes on from the checkpoint, ends after an eighth of the run
    measure_kept(ARMS["fast"], options)         # leak, known facts and drift of the model that has passed

Everything but TRL's loop is what `demask inject` does: its stages, its run folder, its checkpoints.
"""

import argparse
import json
import math
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from demask.errors import InterruptionError
from demask.progress import Silent
from demask.recipe.file import merge_values
from demask.recipe.launch import Launch
from demask.recipe.sections import DEFAULT_LENGTH, RunConfig, make_config
from demask.records import Passage, Prediction, QAPair
from demask.stages.documents import Knowledge, keep_knowledge, read_knowledge
from demask.stages.gate import gated_once, make_gate_stage, read_gate_file
from demask.stages.loading import load_base
from demask.stages.paraphrases import paraphrase_stage
from demask.stages.passages import split_stage
from demask.stages.predictions import ask_base
from demask.stages.questions import question_stage
from demask.stages.replay import make_pool
from demask.stages.retained import Retained
from demask.stages.retention import Material, judge_stage, measure_base, measure_tuned
from demask.stages.training import TrainingData, is_trained, load_trained, train_stage
from demask.storage import file_names
from demask.storage.run_folder import RunFolder, claim_run_folder
from demask.tasks.inject import document_data

if TYPE_CHECKING:
    from demask.models.load import LoadedModel

SLICES = "slices.jsonl"
# Fewer than a run has, so that checkpoints are those at the ends of slices.
NEVER = 10**9
# As `gated` has. LoRA's is drawn anew: its base model is kept in the dtype that it is stored in.
POOL = 384
TINY: dict[str, Any] = {"evaluate": {"max_new_tokens": 4}, "train": {"steps": 4, "batch_size": 2}}
TINY_POOL = {"pool": 4, "conversations": 1}


@dataclass(frozen=True)
class Arm:
    """A way to train.

    Attributes:
        name: in tables, and of its folder.
        recipe: put over what all share.
        rate: where its learning rate comes from.
        by: whose loop trains.
        reworded: whether paraphrases are trained, too.
    """

    name: str
    recipe: dict[str, Any] = field(default_factory=dict)
    rate: str = ""
    by: str = "demask"
    reworded: bool = False


_SEARCHED = "the default, searched on ten other facts"
_LORA: dict[str, Any] = {"train": {"method": "lora"}, "retain": {"gate": True, "pool": POOL}}
ARMS = {
    arm.name: arm
    for arm in (
        Arm("keep", {"preset": "keep"}, "the preset's, searched on the quickstart"),
        Arm("gated", {"preset": "gated"}, f"{_SEARCHED}; kept in a search on the quickstart"),
        Arm("fast", {"preset": "fast"}, _SEARCHED),
        Arm("paper", {"preset": "paper"}, "the default, not searched for it; constant as in the paper"),
        Arm("lora", {"preset": "fast", **_LORA}, f"{_SEARCHED}: ten times that of full training"),
        Arm(
            "next-token-paraphrases",
            {"preset": "fast", "objective": "next-token"},
            "the default, half of demasking's: searched on ten other facts without paraphrases",
            reworded=True,
        ),
        Arm("trl", {"preset": "fast"}, "examples.json, which is that of fast; its schedule, too", by="trl"),
    )
}


def make_recipe(arm: Arm, options: argparse.Namespace) -> RunConfig:
    """The recipe of an arm.

    Args:
        arm: what it is.
        options: model, documents, questions, paraphrases, seed, and how much is measured.
    """
    shared = {
        "model": options.model,
        "documents": str(options.documents),
        "qa": str(options.qa),
        "device": options.device,
        "seed": options.seed,
        "measure": options.measure,
        "evaluate": {"max_new_tokens": 48, "ceiling": False},
        "train": {"save_every": NEVER},
    }
    values = merge_values(shared, arm.recipe)
    if arm.reworded:
        # Twice the exposures of a fact that `fast` has: its examples are about half as long.
        wordings = 1 + _count_rows(options.paraphrases) / _count_rows(options.documents)
        epochs = round(2 * DEFAULT_LENGTH.epochs / wordings, 3)
        more = {"paraphrases": str(options.paraphrases), "train": {"epochs": epochs}}
        values = merge_values(values, more)
    if options.tiny:
        values = merge_values(values, TINY)
        values["train"].pop("epochs", None)
        if arm.name in ("keep", "gated"):
            values = merge_values(values, {"retain": TINY_POOL})
        elif "retain" in values:
            values = merge_values(values, {"retain": {"pool": TINY_POOL["pool"]}})
    return make_config(values, source=arm.name)


def _count_rows(path: Path) -> int:
    return sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


@dataclass(frozen=True)
class Ready:
    """What is there before training.

    Attributes:
        arm: what it is.
        config: its recipe.
        run: its folder.
        knowledge: documents.
        base: gives the base model.
        pairs: questions.
        passages: what is taught.
        before: what the base model answers.
        took: what all this has taken; a pool is drawn once for each base model and then read.
        options: the command line.
    """

    arm: Arm
    config: RunConfig
    run: RunFolder
    knowledge: Knowledge
    base: "Callable[[], LoadedModel]"
    pairs: Sequence[QAPair]
    passages: Sequence[Passage]
    before: Sequence[Prediction]
    took: "Moment"
    options: argparse.Namespace


def prepare(arm: Arm, options: argparse.Namespace) -> Ready:
    """The stages before training; what is done already is read."""
    begun, config, told = Moment.now(), make_recipe(arm, options), Silent()
    run = claim_run_folder(options.out / arm.name, config.model_dump(mode="json"))
    (run.path / "read").mkdir(exist_ok=True)
    knowledge = keep_knowledge(run, read_knowledge(config, RunFolder(run.path / "read")))
    base = load_base(config, told)
    pairs = question_stage(config, run, knowledge, told)
    paraphrase_stage(config, run, knowledge, pairs, told)
    passages = split_stage(config, run, knowledge, base, told)
    before = ask_base(config, run, pairs, knowledge.documents, passages, base, told)["before"]
    make_pool(config, run, Retained(), base, told, passages)
    make_gate_stage(config, run, passages, base, told)
    return Ready(arm, config, run, knowledge, base, pairs, passages, before, begun.passed(), options)


class Moment(NamedTuple):
    """Seconds by the clock, and of the processor."""

    clock: float
    processor: float

    @classmethod
    def now(cls) -> "Moment":
        """Of this process, all threads."""
        return cls(time.perf_counter(), time.process_time())

    def passed(self) -> "Moment":
        """Since then."""
        now = Moment.now()
        return Moment(round(now.clock - self.clock, 3), round(now.processor - self.processor, 3))


class Meter:
    """In the process of a slice: what training takes, and at the end of the slice what the model answers.

    It begins with the first forward of a step; loading, going on from a checkpoint and writing one are none.

    Args:
        ready: what is there before training.
        loaded: what is trained.
        steps: of the whole run.
        rate: peak learning rate.
        count_tokens: of all steps until one, padding aside.
    """

    def __init__(
        self,
        ready: Ready,
        loaded: "LoadedModel",
        *,
        steps: int,
        rate: float,
        count_tokens: Callable[[int], int],
    ) -> None:
        from demask.training.peak_memory import PeakMemory

        self._ready, self._loaded, self._count_tokens = ready, loaded, count_tokens
        self.steps, self.rate = steps, rate
        self.ends = slice_ends(steps, ready.options.slices)
        rows = ready.run.read_rows(SLICES) if ready.run.has(SLICES) else []
        earlier = max((row["peak_memory_bytes"] for row in rows), default=0)
        self._peak = PeakMemory(loaded.device, earlier=earlier)
        self._begun: Moment | None = None
        loaded.model.get_input_embeddings().register_forward_pre_hook(self._begin)

    def _begin(self, module: Any, inputs: Any) -> None:
        if module.training and self._begun is None:
            self._begun = Moment.now()

    def is_end(self, step: int) -> bool:
        """Whether a slice ends after this step."""
        return step in self.ends

    def close(self, step: int) -> bool:
        """Keep what the slice took, ask the questions, and say whether the arm has passed.

        Args:
            step: the last one.
        """
        from measuring import wait_for_device

        wait_for_device()
        assert self._begun is not None, "the model was not called"
        trained = self._begun.passed()
        with self._peak.paused():
            begun = Moment.now()
            found = measure_answers(self._ready, self._loaded, step)
            asked = begun.passed()
        forward, backward = self._ready.options.wanted
        passed = bool(found["forward"] >= forward and found["backward"] >= backward)
        row = {
            "step": step,
            "steps": self.steps,
            "learning_rate": self.rate,
            "tokens": self._count_tokens(step),
            "seconds": trained.clock,
            "processor_seconds": trained.processor,
            "asking_seconds": asked.clock,
            "asking_processor_seconds": asked.processor,
            "preparing_seconds": self._ready.took.clock,
            "preparing_processor_seconds": self._ready.took.processor,
            "peak_memory_bytes": self._peak.note(),
            **found,
            "passed": passed,
        }
        self._ready.run.append_row(SLICES, row)
        return passed


def slice_ends(steps: int, slices: int) -> list[int]:
    """The steps after which slices end; the last one is that of the run."""
    return sorted({math.ceil(steps * number / slices) for number in range(1, slices + 1)})


def measure_answers(ready: Ready, loaded: "LoadedModel", step: int) -> dict[str, Any]:
    """Accuracy by direction, of what a user would see: where the gate stays shut the base model's answer.

    Args:
        ready: what is there before training.
        loaded: what is trained.
        step: after which; for the run's own log.
    """
    from demask.evaluation.metrics import HEADLINE, score_predictions
    from demask.evaluation.qa import make_prompts
    from demask.models.gated import find_open
    from demask.stages.callbacks import measure_accuracy

    directions, rows = measure_accuracy(loaded, ready.pairs, ready.config.evaluate)
    for row in directions:
        ready.run.append_row(file_names.ACCURACY, {"step": step, **row})
    alone = {row["qa_id"]: float(row[HEADLINE]) for row in rows}
    found: dict[str, Any] = by_direction(alone, ready.pairs)
    if not ready.config.retain.gate:
        return found
    gate, prompts = read_gate_file(ready.run), make_prompts(loaded, ready.pairs)
    opened = find_open(gate, loaded.tokenizer, loaded.chat, prompts)
    base = {score.qa_id: score.values[HEADLINE] for score in score_predictions(ready.before, ready.pairs)}
    seen = {
        pair.id: (alone if is_open else base)[pair.id]
        for pair, is_open in zip(ready.pairs, opened, strict=True)
    }
    return {**by_direction(seen, ready.pairs), "alone": found}


def by_direction(scores: dict[str, float], pairs: Sequence[QAPair]) -> dict[str, float]:
    """Means."""
    parts = {name: [scores[p.id] for p in pairs if p.direction == name] for name in ("forward", "backward")}
    return {name: sum(values) / len(values) for name, values in parts.items() if values}


# Training


def train_slice(arm: Arm, options: argparse.Namespace) -> None:
    """Go on until the next slice ends; the model is stored once the arm has passed, or its run is over."""
    ready = prepare(arm, options)
    if is_trained(ready.run):
        return
    if arm.by == "trl":
        train_with_trl(ready)
        return
    from demask.training.checkpoints import checkpoint_step

    ready.run.keep_rows(SLICES, until_step=checkpoint_step(ready.run.file(file_names.CHECKPOINTS)))
    data, told = sliced(document_data(ready.config, ready.run, Silent()), ready), Silent()
    try:
        train_stage(ready.config, ready.run, ready.base, data, progress=told, launch=Launch(keep=1))
    except InterruptionError:
        return  # the slice is over, and its checkpoint written


def sliced(data: TrainingData, ready: Ready) -> TrainingData:
    """The same data, with a callback that ends slices."""
    from demask.training.plan import choose_learning_rate

    streams: list[Any] = []

    def make_stream(context: Any, device: Any) -> Any:
        streams.append(data.make_stream(context, device))
        return streams[-1]

    def make_callback(loaded: "LoadedModel", context: Any, learned: Any) -> "EndSlice":
        def count_tokens(step: int) -> int:
            return sum(len(streams[-1][place].token_ids) for place in range(step * streams[-1].batch_size))

        rate = choose_learning_rate(
            ready.config.train,
            parameters=loaded.parameters,
            batch_size=learned.batch_size,
            rate_share=ready.config.rate_share,
        )
        return EndSlice(Meter(ready, loaded, steps=learned.steps, rate=rate, count_tokens=count_tokens))

    return TrainingData(make_stream, make_callback)


@dataclass(frozen=True)
class EndSlice:
    """The callback of training: measures at the end of a slice, and stops as for a signal."""

    meter: Meter

    def should_stop(self, step: int) -> bool:
        """Whether the arm has passed; a slice that ends without leaves a checkpoint."""
        if not self.meter.is_end(step):
            return False
        passed = self.meter.close(step)
        if not passed and step < self.meter.steps:
            signal.raise_signal(signal.SIGTERM)
        return passed

    def on_step_end(self, step: int) -> None:
        """Nothing."""


def train_with_trl(ready: Ready) -> None:
    """A slice of TRL's SFTTrainer on the examples that demask exports for it."""
    from transformers import TrainerCallback
    from transformers.trainer_utils import get_last_checkpoint

    from demask.training.export import save_model

    written, rows, steps = export_for_trl(ready)
    loaded, checkpoints = ready.base(), ready.run.file(file_names.CHECKPOINTS)
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.exists() else None
    ready.run.keep_rows(SLICES, until_step=int(last.rpartition("-")[2]) if last else 0)
    lengths, batch = [len(row["input_ids"]) for row in rows], written["batch_size"]
    rate = written["learning_rate"]
    meter = Meter(
        ready, loaded, steps=steps, rate=rate, count_tokens=lambda step: sum(lengths[: step * batch])
    )
    ended: list[int] = []  # the step, where nothing is left to train

    class EndTrlSlice(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if meter.is_end(state.global_step):
                control.should_training_stop = True
                if meter.close(state.global_step) or state.global_step == steps:
                    ended.append(state.global_step)
                else:
                    control.should_save = True

    trainer = make_trl_trainer(ready, rows, steps=steps, batch=batch, rate=rate)
    trainer.add_callback(EndTrlSlice())
    trainer.train(resume_from_checkpoint=last)
    if ended:
        loaded.model.eval()
        save_model(loaded, ready.run.file(file_names.MODEL))
        ready.run.write_json(file_names.TRAINING, {"steps": ended[0], "learning_rate": rate})
        shutil.rmtree(checkpoints, ignore_errors=True)


def export_for_trl(ready: Ready) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """What `demask data export` says of the examples, the examples of the whole run, and its steps."""
    from demask.export.examples import MANIFEST, export_examples
    from demask.training.plan import make_schedule

    config, folder, count = ready.config, ready.run.path / "examples", len(ready.passages)
    schedule = make_schedule(
        config.train, passages=count, copies=config.objective.together, length=config.length
    )
    if not (folder / MANIFEST).exists():
        shutil.rmtree(folder, ignore_errors=True)
        export_examples(
            config, folder, form="tokens", epochs=math.ceil(schedule.exposures), progress=Silent()
        )
    written: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    lines = [line for name in written["files"] for line in (folder / name).read_text("utf-8").splitlines()]
    used = lines[: schedule.steps * schedule.batch_size]
    return written, [json.loads(line) for line in used], schedule.steps


def make_trl_trainer(
    ready: Ready, rows: Sequence[dict[str, Any]], *, steps: int, batch: int, rate: float
) -> Any:
    """SFTTrainer as docs/export.md says and perf/training.py tunes it, with demask's AdamW and schedule.

    Args:
        ready: what is there before training.
        rows: examples of all steps, in order.
        steps: of the run.
        batch: examples a step.
        rate: peak.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from demask.models.precision import choose_bf16
    from demask.training.trainer import BETAS, CLIP_NORM, WARMUP_SHARE, WEIGHT_DECAY

    loaded, train = ready.base(), ready.config.train
    falling, rising = round(train.decay * steps), max(1, round(WARMUP_SHARE * steps))
    settings = SFTConfig(
        output_dir=str(ready.run.file(file_names.CHECKPOINTS)),
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=rate,
        warmup_steps=rising,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": falling, "decay_type": "linear", "min_lr_ratio": 0.0},
        adam_beta2=BETAS[1],
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=CLIP_NORM,
        optim="adamw_torch_fused",
        bf16=choose_bf16(train.precision, loaded.device),
        use_cpu=loaded.device.type == "cpu",
        gradient_checkpointing=False,
        max_length=None,
        packing=False,
        train_sampling_strategy="sequential",
        seed=ready.config.seed,
        logging_steps=1,
        save_strategy="no",
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
    )
    return SFTTrainer(
        model=loaded.model,
        args=settings,
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=loaded.tokenizer,
    )


# Retention


def measure_kept(arm: Arm, options: argparse.Namespace) -> None:
    """Leave `retention.json` in the arm's folder: of the model alone, and behind its gate if it has one."""
    ready, told = prepare(arm, options), Silent()
    config, run = ready.config, ready.run
    material = Material(ready.knowledge.documents, ready.passages, ready.pairs)
    measure_base(config, run, material, ready.base, told)
    tuned = gated_once(config, run, partial(load_trained, run, config, told), told)
    measure_tuned(config, run, material, tuned, told)
    judge_stage(config, run, material, {})
