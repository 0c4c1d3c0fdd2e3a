"""Train, log every step, and store the model; a killed run goes on at its last checkpoint.

tuned = train_stage(config, run, load, passages, (), pairs, progress)
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from demask import rundir
from demask.config import RunConfig
from demask.environment import peak_memory
from demask.progress import Progress
from demask.records import Paraphrase, Passage, QAPair
from demask.rundir import RunFolder
from demask.stages.inputs import add_paraphrases, find_mask_id
from demask.stages.watching import Watch

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from demask.models.load import LoadedModel
    from demask.training.sampler import ExposureStream
    from demask.training.trainer import StepMetrics


def make_stream(
    config: RunConfig,
    tokenizer: "PreTrainedTokenizerBase",
    architecture: "PretrainedConfig",
    passages: Sequence[Passage],
) -> "ExposureStream":
    """Every exposure of the run, in order."""
    from demask.objectives.examples import count_copies, count_variants, example_maker
    from demask.objectives.prompts import count_tokens, load_chat_format
    from demask.training.plan import make_schedule
    from demask.training.sampler import ExposureStream

    copies = count_copies(config.objective)
    schedule = make_schedule(config.train, passages=len(passages), copies=copies)
    return ExposureStream(
        passages,
        count_tokens(tokenizer, (passage.training_text for passage in passages)),
        example_maker(
            config.objective,
            tokenizer=tokenizer,
            chat=load_chat_format(tokenizer),
            mask_id=find_mask_id(config, tokenizer, architecture),
            seed=config.seed,
        ),
        variants=count_variants(config.objective),
        batch_size=schedule.batch_size,
        steps=schedule.steps,
        seed=config.seed,
        copies=copies,
    )


def train_stage(
    config: RunConfig,
    run: RunFolder,
    load: Callable[[], "LoadedModel"],
    passages: Sequence[Passage],
    paraphrases: Sequence[Paraphrase],
    pairs: Sequence[QAPair],
    progress: Progress,
) -> "LoadedModel":
    """Train, or go on training, or load what was trained; the model that is returned is the one stored."""
    from demask.models.load import load_model

    if run.has(rundir.TRAINING) and run.has(rundir.MODEL):
        _remove_checkpoints(run)  # where a killed process had not come to it
        return load_model(str(run.file(rundir.MODEL)), device=config.device)
    from demask.training.export import add_adapter, round_weights, save_adapter, save_model

    loaded = load()
    parameters = loaded.parameters
    texts = add_paraphrases(config, passages, paraphrases, loaded.tokenizer, loaded.model.config)
    stream = make_stream(config, loaded.tokenizer, loaded.model.config, texts)
    trained = loaded
    if config.train.method == "lora":
        form = loaded.diffusion
        adapter = add_adapter(
            loaded.model,
            rank=config.train.lora_rank,
            seed=config.seed,
            # LLaDA and Dream have learned their mask token; a converted model has not.
            trained_token=form.mask_token_id if form and form.layout == "native" else None,
        )
        trained = replace(loaded, model=adapter)
    watch = Watch(config, run, trained, texts, pairs, stream.batch_size)
    totals = _train(config, run, trained, stream, watch, progress, parameters)
    if config.train.method == "lora":
        save_adapter(trained.model, run.file(rundir.ADAPTER))
        trained = replace(loaded, model=trained.model.merge_and_unload())  # type: ignore[operator]
    round_weights(trained.model, loaded.stored_dtype)
    save_model(trained, run.file(rundir.MODEL))
    run.write_json(rundir.TRAINING, totals)
    _remove_checkpoints(run)
    return trained


def _remove_checkpoints(run: RunFolder) -> None:
    shutil.rmtree(run.file(rundir.CHECKPOINTS), ignore_errors=True)


def _train(
    config: RunConfig,
    run: RunFolder,
    loaded: "LoadedModel",
    stream: "ExposureStream",
    watch: Watch,
    progress: Progress,
    parameters: int,
) -> dict[str, Any]:
    from demask.models.precision import choose_bf16
    from demask.training.checkpoints import checkpoint_step
    from demask.training.plan import choose_accumulation, choose_learning_rate
    from demask.training.trainer import TrainSettings, train_model

    folder = run.file(rundir.CHECKPOINTS)
    done = checkpoint_step(folder)
    before = run.keep_rows(rundir.METRICS, until_step=done)
    for name in (rundir.ACCURACY, rundir.STEP_SCORES):
        run.keep_rows(name, until_step=done)
    progress.begin("Training", stream.steps, done=done)
    settings = TrainSettings(
        learning_rate=choose_learning_rate(config.train, parameters=parameters),
        accumulation=choose_accumulation(
            config.train,
            batch_size=stream.batch_size,
            longest=stream.longest_example(),
            device=loaded.device,
        ),
        save_every=config.train.save_every,
        bf16=choose_bf16(config.train.precision, loaded.device),
        pad_id=loaded.pad_id,
        seed=config.seed,
    )
    train_model(
        loaded.model,
        stream,
        settings,
        folder=folder,
        on_step=partial(_log_step, run, progress, before[-1] if before else None),
        after_step=watch.after_step,
        is_enough=watch.is_enough,
    )
    last = run.read_rows(rundir.METRICS)[-1]
    return {
        "steps": last["step"],  # fewer than planned where a probe stopped it
        "batch_size": stream.batch_size,
        "accumulation": settings.accumulation,
        "exposures": stream.exposures * last["step"] / stream.steps,
        "learning_rate": settings.learning_rate,
        "precision": "bf16" if settings.bf16 else "fp32",
        "tokens": last["tokens"],
        "seconds": last["seconds"],
        "peak_memory_bytes": _peak_memory(loaded),
        "parameters": parameters,
        "document_tokens": sum(stream.lengths),
        "trained_parameters": sum(p.numel() for p in loaded.model.parameters() if p.requires_grad),
    }


def _log_step(
    run: RunFolder, progress: Progress, before: Mapping[str, Any] | None, metrics: "StepMetrics"
) -> None:
    """Keep one line of the log; time and tokens of an earlier, killed process are added."""
    row = asdict(metrics)
    if before is not None:
        row["seconds"] = round(row["seconds"] + before["seconds"], 3)
        row["tokens"] += before["tokens"]
    run.append_row(rundir.METRICS, row)
    losses = [
        f"{name} {value:.3f}"
        for name, value in (("masked", metrics.loss_masked), ("copied", metrics.loss_copied))
        if value is not None
    ]
    speed = metrics.tokens / max(metrics.seconds, 1e-9)
    progress.advance(metrics.steps, note=f"loss {', '.join(losses)}; {speed:.0f} tokens/s")


def _peak_memory(loaded: "LoadedModel") -> int:
    """Of the GPU where there is one, else of this process; bytes."""
    if loaded.device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(loaded.device)
    return peak_memory()
