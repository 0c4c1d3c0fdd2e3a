"""Train, log every step, and store the model; a killed run goes on at its last checkpoint.

    tuned = train_stage(config, run, load, data, progress=progress, launch=Launch())

With several processes this one starts them (`launching`), and each comes here again by `commands/worker.py`.
"""

import gc
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from demask.errors import ConfigError
from demask.launching.nodes import find_node, open_meeting, wait_for_first_node
from demask.launching.processes import run_workers
from demask.launching.strategies import check_launch
from demask.progress import STEPS, Progress
from demask.recipe.fine_tuning import TaskConfig
from demask.recipe.launch import Launch
from demask.recipe.sections import Train
from demask.stages.drift_watch import DriftWatch, watch_drift
from demask.stages.lineage import read_lineage, starting_model
from demask.stages.passages import write_environment
from demask.stages.replay import keep_budget
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

    from demask.data.sequences import Samples
    from demask.data.streaming import StreamedSamples
    from demask.models.load import LoadedModel
    from demask.objectives.objective import Context
    from demask.stages.callbacks import Callback
    from demask.training.step_metrics import StepMetrics
    from demask.training.stream import ExposureStream, MixedStream
    from demask.training.trainer import TrainSettings

    Stream: TypeAlias = ExposureStream[Any] | StreamedSamples | MixedStream


class TrainingData(NamedTuple):
    """What a run trains on, whatever it comes from; read from the run folder by each process that trains.

    Attributes:
        make_stream: every exposure of the run, for a model on a device.
        make_callback: what is called while the model trains, of what is learned.
    """

    make_stream: "Callable[[Context, torch.device], Stream]"
    make_callback: "Callable[[LoadedModel, Context, Any], Callback]"


def check_share(config: TaskConfig, launch: Launch, *, samples: int) -> None:
    """See that a step has an example for each process, before hours of asking.

    Raises:
        ConfigError: it has fewer.
    """
    from demask.training.plan import check_ranks, make_schedule

    schedule = make_schedule(
        config.train, passages=samples, copies=config.objective.together, length=config.length
    )
    check_ranks(config.train, batch_size=schedule.batch_size, ranks=launch.ranks)


def train_stage(
    config: TaskConfig,
    run: RunFolder,
    load: Callable[[], "LoadedModel"],
    data: TrainingData,
    *,
    progress: Progress,
    launch: Launch,
) -> "LoadedModel":
    """Train, or go on training, or load what was trained; the model that is returned is the one stored.

    Args:
        config: of the run.
        run: all that comes before training is in it.
        load: gives the base model, called only when it is needed.
        data: what is trained on.
        progress: told how far the processes are.
        launch: with several processes they are started, and train.

    Raises:
        RunError: a process that trained has ended without being done.
    """
    if not is_trained(run) and launch.ranks > 1:
        _free_gpu()
        run_workers(run.path, launch, progress=progress)
    if is_trained(run):
        return load_trained(run, config, progress)
    return train_here(config, run, load(), data, progress=progress, launch=launch)


def is_trained(run: RunFolder) -> bool:
    """Whether a run has its trained model."""
    return run.has(file_names.TRAINING) and run.has(file_names.MODEL)


def only_helped(train: Train, device: str, out: Path, launch: Launch, progress: Progress) -> bool:
    """Check how a run is started; a node other than the first then does its share of the training.

    Args:
        train: the recipe's section.
        device: the recipe's.
        out: the run folder, which all nodes see; the first one makes it.
        launch: the recipe's section.
        progress: told how far the work is.

    Returns:
        Whether that was all that this node has to do.

    Raises:
        DemaskError: it cannot be started so, or a process of any node has ended without being done.
    """
    evaluates = train.evaluate_every is not None or train.stop is not None
    check_launch(launch, batch_size=train.batch_size, evaluates=evaluates, device=device)
    if train.method == "qlora" and launch.strategy != "ddp":
        raise ConfigError(
            f"launch.strategy is {launch.strategy}, which cuts weights over processes, and train.method "
            "'qlora', whose four bits cannot be cut; set launch.strategy=ddp or train.method=lora"
        )
    if find_node(launch) == 0:
        return False
    run = RunFolder(out)
    if wait_for_first_node(open_meeting(out, launch), lambda: is_trained(run), progress):
        run_workers(out, launch, progress=progress)
    return True


def load_trained(run: RunFolder, config: TaskConfig, progress: Progress) -> "LoadedModel":
    """The trained model of a run; its checkpoints are no longer wanted.

    Args:
        run: its folder.
        config: of the run.
        progress: told where the model is asked on a CPU in place of a GPU.

    Raises:
        ModelError: the model cannot be loaded.
    """
    from demask.models.load import load_model, place_to_ask

    _remove_checkpoints(run)  # where a killed process had not come to it
    name, frozen = str(run.file(file_names.MODEL)), config.train.merged
    device = place_to_ask(name, config.device, frozen)
    if device != config.device:
        progress.say(f"{name}: its weights do not fit into the GPU's memory; it is asked on the CPU, slowly")
    return load_model(name, device=device, frozen=frozen)


def train_here(
    config: TaskConfig,
    run: RunFolder,
    loaded: "LoadedModel",
    data: TrainingData,
    *,
    progress: Progress,
    launch: Launch,
) -> "LoadedModel":
    """Train in this process, alone or as one of several, and store the model.

    Args:
        config: of the run.
        run: gets `metrics.jsonl`, checkpoints, `adapter/` (LoRA), `model/`, `delta/` (where the recipe wants
            it) and, last, `training.json`.
        loaded: is trained in place.
        data: what is trained on.
        progress: told of every step.
        launch: memory and checkpoints; the processes are there already.

    Returns:
        The model as it is stored; where several processes train, only the first has all of its weights.
    """
    from demask.models.context import make_context
    from demask.models.quantised import is_quantised
    from demask.training.distributed import barrier, is_main_process
    from demask.training.export import merge_adapter, round_weights, save_adapter, save_model
    from demask.training.stream import learned_part

    if is_main_process() and not run.has(file_names.ENVIRONMENT):
        write_environment(run, config, loaded)
    if is_main_process() and config.train.keep_delta:
        _keep_start(run, loaded)
    context = make_context(loaded, config.objective)
    stream = data.make_stream(context, loaded.device)
    settings = make_settings(config, loaded, stream, launch)
    parameters, trained = loaded.parameters, choose_trained(config.train, loaded, seed=config.seed)
    callback = data.make_callback(trained, context, learned_part(stream))
    watch = watch_drift(config, run, trained, steps=stream.steps, whole=launch.strategy == "ddp")
    totals = _train(run, trained, stream, settings, callback, watch, progress)
    if is_main_process():
        totals |= keep_budget(config, run, trained, progress)
        four_bits = is_quantised(trained.model)
        if config.train.has_adapter:
            save_adapter(trained.model, run.file(file_names.ADAPTER))
            trained = replace(loaded, model=merge_adapter(trained.model, loaded.stored_dtype))
        round_weights(trained.model, loaded.stored_dtype)
        save_model(trained, run.file(file_names.MODEL))
        if config.train.keep_delta:
            _keep_delta(run)
        run.write_json(file_names.TRAINING, {**totals, "parameters": parameters})
        _remove_checkpoints(run)
        if four_bits:  # merged in main memory
            trained = load_trained(run, config, progress)
    barrier()
    return trained


def _keep_start(run: RunFolder, loaded: "LoadedModel") -> None:
    """The model before training, stored as the trained one will be, until training is over.

    That of a parent is a copy, as a folder that is loaded and stored has other settings of the tokenizer.
    """
    from demask.training.export import copy_model, save_model

    if run.has(file_names.START):
        return
    lineage, place = read_lineage(run), run.file(file_names.START)
    if lineage is None:
        save_model(loaded, place)
    else:
        copy_model(Path(starting_model(run, loaded.name)), place)


def _keep_delta(run: RunFolder) -> None:
    """What leads from the trained model back to the one before."""
    from demask.training.delta import write_delta

    write_delta(run.file(file_names.START), run.file(file_names.MODEL), run.file(file_names.DELTA))


def choose_trained(train: Train, loaded: "LoadedModel", *, seed: int) -> "LoadedModel":
    """The model as it is trained: with an adapter where the recipe wants one, else its own weights or some.

    Raises:
        ModelError: this architecture takes no adapter, or has no weights of the kind that is wanted.
    """
    import torch

    from demask.models.precision import choose_bf16
    from demask.models.quantised import set_compute_dtype
    from demask.models.trained_weights import freeze_others
    from demask.training.export import add_adapter

    if not train.has_adapter:
        freeze_others(loaded.model, train.weights)
        return loaded
    if train.method == "qlora":
        bf16 = choose_bf16(train.precision, loaded.device)
        set_compute_dtype(loaded.model, torch.bfloat16 if bf16 else torch.float32)
    form = loaded.diffusion
    adapter = add_adapter(
        loaded.model,
        rank=train.lora_rank,
        seed=seed,
        # LLaDA and Dream have learned their mask token; a converted model has not.
        trained_token=form.mask_token_id if form and form.layout == "native" else None,
    )
    return replace(loaded, model=adapter)


def _remove_checkpoints(run: RunFolder) -> None:
    """What only training needs."""
    for name in (file_names.CHECKPOINTS, file_names.START):
        shutil.rmtree(run.file(name), ignore_errors=True)


def make_settings(
    config: TaskConfig, loaded: "LoadedModel", stream: "Stream", launch: Launch, *, ranks: int | None = None
) -> "TrainSettings":
    """The numbers of the trainer; nothing is left to choose.

    Args:
        config: of the run.
        loaded: what is trained.
        stream: every exposure of the run.
        launch: the recipe's section.
        ranks: processes that train together; None: those that are there.
    """
    from demask.models.precision import choose_bf16
    from demask.training.distributed import world_size
    from demask.training.plan import choose_accumulation, choose_learning_rate
    from demask.training.stream import MixedStream, learned_part
    from demask.training.trainer import TrainSettings

    train = config.train
    settings = TrainSettings(
        learning_rate=choose_learning_rate(
            train,
            parameters=loaded.parameters,
            batch_size=learned_part(stream).batch_size,
            rate_share=config.rate_share,
        ),
        accumulation=choose_accumulation(
            train,
            batch_size=stream.batch_size,
            longest=stream.longest_example(),
            device=loaded.device,
            ranks=ranks or world_size(),
        ),
        save_every=train.save_every,
        decay=train.decay,
        bf16=choose_bf16(train.precision, loaded.device),
        pad_id=loaded.pad_id,
        seed=stream.seed,
        compile=launch.compile,
        gradient_checkpointing=launch.gradient_checkpointing,
        keep=launch.keep,
    )
    if not isinstance(stream, MixedStream):
        return settings
    # A pull towards zero is one away from the base model, and what is replayed makes gradients noisier.
    return replace(settings, more_terms=stream.more_terms, weight_decay=0.0, beta2=0.99)


def _train(
    run: RunFolder,
    loaded: "LoadedModel",
    stream: "Stream",
    settings: "TrainSettings",
    callback: "Callback",
    watch: DriftWatch,
    progress: Progress,
) -> dict[str, Any]:
    """Train, and what `training.json` says of it; of several processes the first alone has it."""
    from demask.training.checkpoints import checkpoint_step
    from demask.training.distributed import all_reduce_max, barrier, is_main_process, world_size
    from demask.training.peak_memory import PeakMemory
    from demask.training.stream import learned_part
    from demask.training.trainer import train_model

    folder = run.file(file_names.CHECKPOINTS)
    # Of steps that are made again, too: that process did hold so much.
    earlier = _logged_peak(run) if is_main_process() else 0
    peak = PeakMemory(loaded.device, earlier=earlier)

    def on_step_end(step: int) -> None:
        with peak.paused():
            callback.on_step_end(step)
            watch.on_step_end(step)

    train = partial(
        train_model,
        loaded.model,
        stream,
        replace(settings, say=progress.say),
        folder=folder,
        on_step_end=on_step_end,
        should_stop=callback.should_stop,
    )
    if not is_main_process():
        barrier()
        train(on_step=lambda step: None)
        all_reduce_max(peak.note())
        return {}
    done = checkpoint_step(folder, processes=world_size(), say=progress.say)
    before = run.keep_rows(file_names.METRICS, until_step=done)
    for name in (file_names.ACCURACY, file_names.STEP_SCORES, file_names.HELD_OUT):
        run.keep_rows(name, until_step=done)
    progress.begin("Training", stream.steps, done=done, unit=STEPS)
    barrier()
    trained_parameters = sum(p.numel() for p in loaded.model.parameters() if p.requires_grad)
    log = _Log(run, progress, before[-1] if before else None, stream.steps, peak.note, watch.take)
    train(on_step=partial(_log_step, log))
    last = run.read_rows(file_names.METRICS)[-1]
    return {
        "steps": last["step"],  # fewer than planned where a probe stopped it
        "batch_size": learned_part(stream).batch_size,
        "replayed": stream.batch_size - learned_part(stream).batch_size,
        "accumulation": settings.accumulation,
        "processes": world_size(),
        "learning_rate": settings.learning_rate,
        "precision": "bf16" if settings.bf16 else "fp32",
        "tokens": last["tokens"],
        "seconds": last["seconds"],
        "peak_memory_bytes": all_reduce_max(peak.note()),
        "trained_parameters": trained_parameters,
        **_describe(stream, last["step"]),
    }


def _describe(stream: "Stream", step: int) -> dict[str, Any]:
    """Of a stream whose end nobody has seen, neither is known."""
    from demask.training.stream import ExposureStream, learned_part

    learned = learned_part(stream)
    if not isinstance(learned, ExposureStream):
        return {}
    samples = cast("Samples", learned.passages)
    tokens = int((samples.prompt_lengths + samples.answer_lengths).sum())
    return {"exposures": learned.exposures * step / learned.steps, "document_tokens": tokens}


class _Log(NamedTuple):
    """Where the steps of this process go, and what is told of them besides.

    Attributes:
        run: gets a line for each step.
        progress: told of it.
        before: the last line of an earlier, killed process; None without one.
        planned_steps: of the whole run.
        peak: gives the most memory that training has held, in bytes.
        drift: gives the drift that was measured since it was last asked for; None: nothing was.
    """

    run: RunFolder
    progress: Progress
    before: Mapping[str, Any] | None
    planned_steps: int
    peak: Callable[[], int]
    drift: Callable[[], float | None]


def _logged_peak(run: RunFolder) -> int:
    """The most memory that earlier, killed processes of this training have held; 0 without any."""
    rows = run.keep_rows(file_names.METRICS, until_step=sys.maxsize)
    return max((row.get("peak_memory_bytes", 0) for row in rows), default=0)


def _log_step(log: _Log, metrics: "StepMetrics") -> None:
    """Keep one line of the log; time and tokens of an earlier, killed process are added."""
    run, progress, before, planned_steps, peak, drift_since = log
    row = {**asdict(metrics), "planned_steps": planned_steps, "peak_memory_bytes": peak()}
    drift = drift_since()
    if drift is not None:
        row["drift"] = drift
    if before is not None:
        row["seconds"] = round(row["seconds"] + before["seconds"], 3)
        row["tokens"] += before["tokens"]
    run.append_row(file_names.METRICS, row)
    values = {
        "loss": metrics.loss,
        "masked": metrics.loss_masked,
        "copied": metrics.loss_copied,
        **dict(list((metrics.terms or {}).items())[1:]),
        "drift": drift,
        "tokens/s": metrics.tokens / max(metrics.seconds, 1e-9),
    }
    known = {name: value for name, value in values.items() if value is not None}
    progress.advance(metrics.steps, known)


def _free_gpu() -> None:
    """Give back what a base model held while it was asked."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
