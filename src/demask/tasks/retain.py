"""A finished run once more, with more of its base model: moved back towards it, or behind a gate.

    done = retain("runs/first", budget=0.03, out="runs/first-retained", progress=Silent())
    done = retain("runs/first", gate=True, progress=Silent())

A budget moves the model back until it drifts no more than that:
W = W_base + share x (W_trained - W_base), with the largest share that keeps the budget on conversations that
the base model draws for this alone: none was replayed, none stands in the questions or in the suite that
measures retention. With a gate the base model answers what is not about the documents (`knowledge.gate`).

The finished run stays as it is. Its files that do not depend on training are copied, and
what does is made again: the model, its answers, what it has retained, the report.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.errors import ConfigError, ModelError, RunError
from demask.evaluation.metrics import HEADLINE
from demask.progress import Progress
from demask.recipe.sections import RunConfig, make_stored_config
from demask.records import Prediction
from demask.reports.runs import load_run
from demask.stages.documents import Coverage
from demask.stages.forgetting import forgetting_stages, keep_likelihoods
from demask.stages.gate import make_gate_stage, plain_weights
from demask.stages.loading import load_base, load_merged
from demask.stages.replay import ask_on_the_way, draw_selection, make_pool, measure_drift
from demask.stages.retained import Retained
from demask.stages.retention import read_material
from demask.stages.retrieval import retrieval_stages
from demask.storage import file_names
from demask.storage.progress_file import recording
from demask.storage.run_folder import (
    RunFolder,
    claim_run_folder,
    locked_run_folder,
    open_finished_run,
)
from demask.tasks.inject import Injected, finish_run

if TYPE_CHECKING:
    import torch

    from demask.generation.conversations import Conversation
    from demask.models.load import LoadedModel
    from demask.training.interpolation import Point

# What a run has made before training, or of training itself.
_COPIED = (
    file_names.DOCUMENTS,
    file_names.PASSAGES,
    file_names.QA_PAIRS,
    file_names.REJECTS,
    file_names.AUDIT,
    file_names.PARAPHRASES,
    file_names.COVERAGE,
    file_names.ENVIRONMENT,
    file_names.LINEAGE,
    file_names.REMOVED,
    file_names.APART,
    file_names.APART_BEFORE,
    file_names.METRICS,
    file_names.ACCURACY,
    file_names.STEP_SCORES,
    file_names.predictions_file("before"),
    file_names.predictions_file("ceiling"),
    file_names.RETRIEVED,
    file_names.RETENTION_BEFORE,
    file_names.RETENTION_TARGETS,
)
# After tenths of the way, halvings between two of them: the share is found to a fortieth.
_HALVINGS = 2
# Shares at which questions are asked besides, so that the report has a curve.
_ASKED = (0.75, 0.5, 0.25)


def retain(
    folder: str | Path,
    *,
    budget: float | None = None,
    gate: bool | None = None,
    out: str | Path | None = None,
    progress: Progress,
) -> Injected:
    """Keep more of the base model of a finished run, in a run folder of its own.

    Args:
        folder: of the finished run; it is only read.
        budget: drift in nats per token that the model may have, for which it is moved back towards its base;
            None: it stays where it is.
        gate: whether the base model answers what is not about the documents; None: as in the finished run.
        out: the new run folder; None: beside the finished one, its name with `-retained`. What was begun
            there with the same run, budget and gate goes on.
        progress: told how far the work is.

    Raises:
        ConfigError: nothing is wanted, the budget is not above 0, `out` is something else, or the model is a
            masked-diffusion one.
        RunError: the run is not finished, keeps the budget already, or has a gate already and no more is
            wanted.
        ModelError: the base model cannot be loaded.
    """
    if budget is None and not gate:
        raise ConfigError("neither a budget nor a gate is given, expected one of them; see --help")
    if budget is not None and not budget > 0:
        raise ConfigError(f"budget is {budget}, expected nats per token above 0, as 0.03")
    run = open_finished_run(folder)
    load_run(run)  # what a report needs is there
    config = make_stored_config(run.read_json(file_names.CONFIG), source=f"{run.path}/{file_names.CONFIG}")
    if config.objective.needs.diffusion:
        raise ConfigError(
            f"{folder}: a run of a masked-diffusion model, whose drift is not measured; expected an "
            "autoregressive one"
        )
    if budget is None and run.has(file_names.GATE):
        raise RunError(f"{folder}: has a gate already; give --budget to move its model back behind it")
    gate = config.retain.gate if gate is None else gate
    config = config.model_copy(update={"retain": config.retain.model_copy(update={"gate": gate})})
    config = config if config.retain.pool or not gate else _with_pool(config)
    place = Path(out) if out is not None else run.path.with_name(f"{run.path.resolve().name}-retained")
    if place.resolve() == run.path.resolve():
        raise ConfigError(f"{place}: the finished run itself, which stays as it is; choose another --out")
    origin = {"run": str(run.path.resolve()), "trained": _digest(run), "budget": budget}
    origin |= {"gate": True} if gate else {}
    new = RunFolder(place)
    if new.has(file_names.CONFIG) and not (
        new.has(file_names.RETAINED) and new.read_json(file_names.RETAINED) == origin
    ):
        raise ConfigError(
            f"{place}: holds another run, or one with another budget or gate; choose another --out"
        )
    with locked_run_folder(place), recording(progress, place) as told:
        if not (new.has(file_names.TRAINING) and new.has(file_names.MODEL)):
            _make(config, run, place, origin, told)
        return _finish(config, run, new, told)


def _digest(run: RunFolder) -> str:
    """Of what training has said of itself: another training of the same recipe says something else."""
    return hashlib.sha256(run.file(file_names.TRAINING).read_bytes()).hexdigest()


def _with_pool(config: RunConfig) -> RunConfig:
    """The same with as many conversations of the base model as by default, to know its words."""
    pool = type(config.retain).model_fields["pool"].default
    return config.model_copy(update={"retain": config.retain.model_copy(update={"pool": pool})})


def _make(config: RunConfig, run: RunFolder, place: Path, origin: dict[str, Any], progress: Progress) -> None:
    """Write the folder of a run that is trained so far."""
    base = cache(lambda: plain_weights(load_base(config, progress)()))
    way = None if origin["budget"] is None else _open_way(config, run, base, progress)
    points = _find_share(way, origin["budget"], progress) if way else []
    new = claim_run_folder(place, config.model_dump(mode="json"))
    new.write_json(file_names.RETAINED, origin)
    stages = [*retrieval_stages(config.evaluate, "before"), *forgetting_stages("before", "parent")]
    asked = map(file_names.predictions_file, stages)
    keep_likelihoods(run, new)
    for name in (*_COPIED, *asked, *([file_names.REPLAY] if config.retain.gate else [])):
        if run.has(name) and not new.has(name):
            shutil.copyfile(run.file(name), new.file(name))
    if config.retain.gate:
        untouched = load_base(config, progress)
        make_pool(config, new, Retained(), untouched, progress)
        make_gate_stage(config, new, read_material(new).passages, untouched, progress)
    training = {**run.read_json(file_names.TRAINING), "retained": origin}
    if way is None:
        for name in (file_names.ADAPTER, file_names.MODEL):
            if run.has(name):
                _copy_folder(run.file(name), new.file(name))
    else:
        points = _ask_between(config, run, new, way, points, progress)
        _store(config, run, new, way, points[-1].share)
        training["interpolation"] = [asdict(point) for point in points]
    new.write_json(file_names.TRAINING, training)


def _open_way(
    config: RunConfig, run: RunFolder, base: "Callable[[], LoadedModel]", progress: Progress
) -> "_Way":
    talks = draw_selection(base(), progress)
    trained = load_merged(config, run, progress)()
    return _make_way(run, base(), trained, talks)


def _store(config: RunConfig, run: RunFolder, new: RunFolder, way: "_Way", share: float) -> None:
    """The model as it stands, and its adapter."""
    from demask.training.export import round_weights, save_model

    # That of an update leads from its parent, and not from the base model.
    if run.has(file_names.ADAPTER) and not run.has(file_names.LINEAGE):
        _scale_adapter(run.file(file_names.ADAPTER), new.file(file_names.ADAPTER), share)
    round_weights(way.trained.model, way.trained.stored_dtype)
    save_model(replace(way.trained, name=config.model), new.file(file_names.MODEL))


@dataclass(frozen=True)
class _Way:
    """From the base model to the trained one, which is moved.

    Attributes:
        run: the finished one.
        trained: its model.
        base: weights of its base by name.
        whole: weights after training by name.
        talks: that drift is measured on.
    """

    run: RunFolder
    trained: "LoadedModel"
    base: "Mapping[str, torch.Tensor]"
    whole: "Mapping[str, torch.Tensor]"
    talks: "Sequence[Conversation]"

    def go_to(self, share: float) -> None:
        """Put the model there."""
        from demask.training.interpolation import move_between

        move_between(self.trained.model, self.base, self.whole, share)

    def measure(self) -> float:
        """Drift of the model where it stands."""
        return measure_drift(self.trained, self.talks)


def _make_way(
    run: RunFolder, base: "LoadedModel", trained: "LoadedModel", talks: "Sequence[Conversation]"
) -> _Way:
    from demask.training.interpolation import copy_weights

    weights = {name: values.detach() for name, values in base.model.named_parameters()}
    theirs = {name: values.shape for name, values in trained.model.named_parameters()}
    if theirs != {name: values.shape for name, values in weights.items()}:
        raise ModelError(f"{base.name}: its weights are not those that {run.path} was trained from")
    return _Way(run, trained, weights, copy_weights(trained.model, weights), talks)


def _find_share(way: _Way, budget: float, progress: Progress) -> "list[Point]":
    """The shares that were tried, the one that is kept last.

    Raises:
        RunError: the whole way keeps the budget, or not even a tenth of it does.
    """
    from demask.training.interpolation import SHARES, find_share

    progress.begin("Measuring drift", len(SHARES) + _HALVINGS, unit="weights")

    def drift_of() -> float:
        drift = way.measure()
        progress.advance()
        return drift

    points = find_share(
        way.trained.model, way.base, budget=budget, drift_of=drift_of, halvings=_HALVINGS, trained=way.whole
    )
    kept = points[-1]
    if kept.share == 1.0:
        raise RunError(
            f"{way.run.path}: keeps the budget already: it drifts by {kept.drift:.4f} nats per token, "
            f"{budget - kept.drift:.4f} less than {budget:g}; nothing is moved back"
        )
    if kept.drift > budget:
        raise RunError(
            f"{way.run.path}: a tenth of what it learned drifts by {kept.drift:.4f} nats per token already, "
            f"expected at most {budget:g}; raise --budget, or train with smaller steps"
        )
    return points


def _ask_between(
    config: RunConfig,
    run: RunFolder,
    new: RunFolder,
    way: _Way,
    points: "Sequence[Point]",
    progress: Progress,
) -> "list[Point]":
    """The same points and a few more, with accuracies; the model stands at the last one afterwards."""
    from demask.training.interpolation import Point

    after = run.read_json(file_names.SUMMARY)["metrics"].get("after", {})
    accuracy = {direction: metrics[HEADLINE] for direction, metrics in after.items()}
    found = {point.share: point for point in points}
    found[1.0] = replace(found[1.0], accuracy=accuracy)
    for share in _ASKED if accuracy else ():
        way.go_to(share)
        drift = found[share].drift if share in found else way.measure()
        found[share] = Point(share, drift, ask_on_the_way(config, new, way.trained, progress))
    kept = points[-1].share
    way.go_to(kept)
    return [*(point for share, point in found.items() if share != kept), found[kept]]


def _scale_adapter(source: Path, target: Path, share: float) -> None:
    """A copy of an adapter whose second factor is smaller, hence its product."""
    from safetensors.torch import load_file, save_file

    def scale(folder: Path) -> None:
        for file in folder.glob("*.safetensors"):
            tensors = load_file(file)
            scaled = {
                name: values * share if "lora_B" in name else values for name, values in tensors.items()
            }
            save_file(scaled, file, metadata={"format": "pt"})

    _copy_folder(source, target, scale)


def _copy_folder(source: Path, target: Path, change: Callable[[Path], None] = lambda folder: None) -> None:
    """A whole copy or none, changed before it gets its name."""
    partial_folder = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    shutil.copytree(source, partial_folder)
    change(partial_folder)
    shutil.rmtree(target, ignore_errors=True)
    partial_folder.replace(target)


def _finish(config: RunConfig, run: RunFolder, new: RunFolder, progress: Progress) -> Injected:
    """Ask and measure the model that was moved back, as every trained model is."""
    if new.has(file_names.SUMMARY):
        progress.say(f"{new.path}: already complete, nothing is done again")
        return Injected(new.path, new.read_json(file_names.SUMMARY))
    summary = run.read_json(file_names.SUMMARY)
    coverage = Coverage(summary["documents"], summary["passages"], summary["coverage"], (), None)
    answers = {
        stage: new.read_records(file_names.predictions_file(stage), Prediction)
        for stage in ("before", "ceiling", *retrieval_stages(config.evaluate, "before"))
        if new.has(file_names.predictions_file(stage))
    }
    tuned = load_merged(config, new, progress)
    return finish_run(
        config, new, read_material(new), answers, coverage=coverage, tuned=tuned, progress=progress
    )
