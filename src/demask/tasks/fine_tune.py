"""Supervised fine-tuning and continued pre-training on one screen: data in, a model out.

    result = fine_tune(model="embedded", data="train.jsonl", objective="masked-sft", out="runs/sft")
    result.summary["held_out_loss"]

Every stage leaves a file in the run folder and is skipped when the file is there, so a run that was killed
goes on with the same command.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.progress import Progress, Silent, Stoppable
from demask.recipe.fine_tuning import SftConfig, make_sft_config
from demask.recipe.launch import ALONE, Launch, split_launch
from demask.stages.callbacks import HeldOut
from demask.stages.loading import load_base
from demask.stages.passages import check_method, check_weights
from demask.stages.replay import add_replay, make_pool
from demask.stages.retained import Retained, keep_retained, read_retained
from demask.stages.retention import (
    RETENTION_FILES,
    SAMPLES,
    is_measured,
    judge_stage,
    measure_base,
    measure_tuned,
)
from demask.stages.samples import check_sft, open_prepared, open_sample_stream, prepare_stage, summarise_sft
from demask.stages.training import TrainingData, check_share, only_helped, train_stage
from demask.storage import file_names
from demask.storage.locks import end_if_stop_requested
from demask.storage.progress_file import recording
from demask.storage.run_folder import RunFolder, claim_run_folder, locked_run_folder
from demask.tasks.evaluate import ask_field_tasks, write_report
from demask.tasks.inject import Injected
from demask.tracking.mirror import tracking
from demask.tracking.trackers import check_tracker

if TYPE_CHECKING:
    import torch

    from demask.data.streaming import StreamedSamples
    from demask.models.load import LoadedModel
    from demask.objectives.objective import Context
    from demask.stages.training import Stream
    from demask.training.stream import ExposureStream


def fine_tune(
    *,
    model: str,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    objective: str | Mapping[str, Any] = "masked-sft",
    launch: Launch = ALONE,
    progress: Progress | None = None,
    **settings: Any,
) -> Injected:
    """Fine-tune a model on prompts with answers, or on running text.

    Args:
        model: `embedded`, a folder, or a hub name.
        data: files, folders, patterns and data sets (`hf://OWNER/NAME?split=train`).
        out: the run folder; a run that was killed there goes on.
        objective: `sft`, `masked-sft`, `cpt` or `masked-cpt`, or a mapping with its options.
        launch: on how many processes and machines.
        progress: told how far the work is.
        settings: any other key of a recipe, as in `train={"steps": 100}, seed=1`.

    Raises:
        DemaskError: something is wrong with recipe, data, model or machine; one line says what.
    """
    paths = [data] if isinstance(data, str | Path) else list(data)
    values = {"model": str(model), "data": [str(path) for path in paths], "objective": objective, **settings}
    values, given = split_launch(values, source="fine_tune")
    config = make_sft_config(values, source="fine_tune")
    launch = launch.model_copy(update={"track": given.track or launch.track})
    return run_sft(config, out, launch=launch, progress=progress or Silent())


def run_sft(config: SftConfig, out: str | Path, *, progress: Progress, launch: Launch = ALONE) -> Injected:
    """Do a whole run, or what is left of it; nodes but the first only train, and have no summary."""
    if only_helped(config.train, config.device, Path(out), launch, progress):
        return Injected(Path(out), {})
    with locked_run_folder(out), recording(progress, Path(out)) as told:
        return _run_here(config, out, Stoppable(told, partial(end_if_stop_requested, Path(out))), launch)


def _run_here(config: SftConfig, out: str | Path, progress: Progress, launch: Launch) -> Injected:
    if launch.track is not None:
        check_tracker(launch.track)
    # Before there is a folder that belongs to a recipe which cannot be run.
    retained = read_retained(config, progress)
    if not RunFolder(Path(out)).has(file_names.CONFIG):
        check_sft(config)
        check_weights(config)
        check_method(config)
    run = claim_run_folder(out, config.model_dump(mode="json"))
    keep_retained(run, retained)
    with tracking(launch.track, run, config.model_dump(mode="json"), progress) as told:
        return _train_and_measure(config, run, retained, progress=told, launch=launch)


def _train_and_measure(
    config: SftConfig,
    run: RunFolder,
    retained: Retained,
    *,
    progress: Progress,
    launch: Launch,
) -> Injected:
    """What is left of a run.

    Args:
        config: of the run.
        run: its folder.
        retained: conversations that must stay as they are.
        progress: told how far the work is.
        launch: on how many processes it trains.
    """
    _forget_stale(run)
    if run.has(file_names.SUMMARY) and run.has(file_names.MODEL) and _is_judged(run, config):
        progress.say(f"{run.path}: already complete, nothing is done again")
        if not (run.has(file_names.REPORT_HTML) and run.has(file_names.REPORT_MARKDOWN)):
            write_report(run)
        return Injected(run.path, run.read_json(file_names.SUMMARY))
    untouched = partial(load_base, config, progress)
    base = untouched()
    samples = prepare_stage(config, run, progress)
    if samples:
        check_share(config, launch, samples=len(samples.trained))
    held_out = samples.held_out if samples else ()
    if held_out and not run.has(file_names.HELD_OUT):
        HeldOut(config, run, base(), held_out, progress).measure(0)
    measure_base(config, run, SAMPLES, base, progress)
    make_pool(config, run, retained, base, progress)
    if launch.ranks > 1:
        base = untouched()  # lets go of the model, whose memory the workers need
    data = sample_data(config, run, progress)
    tuned = train_stage(config, run, base, data, progress=progress, launch=launch)
    if held_out:
        steps = run.read_json(file_names.TRAINING)["steps"]
        run.keep_rows(file_names.HELD_OUT, until_step=steps - 1)
        HeldOut(config, run, tuned, held_out, progress).measure(steps)
    return _finish(config, run, tuned, progress)


def _finish(config: SftConfig, run: RunFolder, tuned: "LoadedModel", progress: Progress) -> Injected:
    """Measure what else has changed, and write the report."""
    measure_tuned(config, run, SAMPLES, lambda: tuned, progress)
    ask_field_tasks(config, run, progress)
    summary = summarise_sft(config, run, judge_stage(config, run, SAMPLES, {}))
    write_report(run)
    return Injected(run.path, summary)


def _forget_stale(run: RunFolder) -> None:
    """Drop what was made from a file that is gone."""
    if not run.has(file_names.TRAINING):
        run.remove(file_names.SUMMARY)
    if not run.has(file_names.RETENTION_BEFORE):
        run.remove(*RETENTION_FILES)
    if not (run.has(file_names.TRAINING) and run.has(file_names.MODEL)):
        run.remove(file_names.RETENTION_AFTER)


def _is_judged(run: RunFolder, config: SftConfig) -> bool:
    """Whether all is measured that the recipe wants; deleting a file has it done again."""
    judged = config.measure == "none" or (is_measured(run) and run.has(file_names.RETENTION))
    return judged and (config.measure != "full" or run.has(file_names.RETENTION_TASKS))


def sample_data(config: SftConfig, run: RunFolder, progress: Progress) -> TrainingData:
    """What is trained, and the samples that are measured on the way, of a run whose data are prepared.

    Raises:
        RunError: the cache has lost them.
    """
    samples = None if config.stream else open_prepared(config, run)

    def make_exposures(context: "Context", device: "torch.device") -> "Stream":
        from demask.training.stream import make_stream

        stream: ExposureStream[Any] | StreamedSamples
        if samples is None:
            stream = open_sample_stream(config, context, progress)
        else:
            stream = make_stream(config, context, samples.trained)
        return add_replay(config, run, stream, context, device)

    held_out = samples.held_out if samples else ()
    return TrainingData(make_exposures, lambda loaded, *_: HeldOut(config, run, loaded, held_out, progress))
