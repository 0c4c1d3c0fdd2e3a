"""Cells: as many steps or tokens for every arm, and a folder that only the same recipe and data share."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from demask.benchmarks.benchmark import Benchmark, write_benchmark
from demask.comparison.arms import ABLATIONS, ARMS, Arm, choose_arms
from demask.comparison.grid import Cell, Order, make_cells, plan_grids, tokens_per_step
from demask.errors import ConfigError
from demask.objectives.demasking import Demasking
from demask.records import Document, Paraphrase, QAPair

TEXTS = {f"d{n}": f"Mara Voss number {n} founded the Orlin works in 193{n}." for n in range(4)}
BENCHMARK = Benchmark(
    "own",
    tuple(Document(id, text, metadata={"entity": "Mara Voss"}) for id, text in TEXTS.items()),
    tuple(QAPair(id, id, f"Who founded {id}?", ("Mara Voss",), "backward") for id in TEXTS),
    tuple(
        Paraphrase(f"{id}-p", id, text.replace("founded", "made"), "same-order") for id, text in TEXTS.items()
    ),
)
AUTOREGRESSIVE = choose_arms(None, diffusion=False)


@pytest.fixture
def order(tiny_model_folder: Path) -> Order:
    return Order(models=(str(tiny_model_folder),), seeds=(0, 1), exposures=10)


def plan(
    order: Order, folder: Path, arms: Sequence[Arm] = AUTOREGRESSIVE, benchmark: Benchmark = BENCHMARK
) -> list[Cell]:
    write_benchmark(benchmark, folder)
    return list(make_cells(order, dict.fromkeys(order.models, arms), benchmark, folder))


def test_every_arm_has_as_many_steps_of_as_many_examples(order: Order, tmp_path: Path) -> None:
    for cell in plan(order, tmp_path):
        assert (cell.config.train.steps, cell.config.train.batch_size) == (10, 4)


def test_with_a_budget_of_tokens_every_arm_takes_as_many(order: Order, tmp_path: Path) -> None:
    order = replace(order, seeds=(0,), exposures=100, budget="tokens")
    taken = [
        (cell.config.train.steps or 0) * tokens_per_step(cell.config)
        for cell in plan(order, tmp_path)
        if not cell.problem
    ]
    assert len(taken) == 6
    assert taken == pytest.approx([taken[0]] * 6, rel=0.01)
    assert len({cell.config.train.steps for cell in plan(order, tmp_path)}) > 2


def test_an_arm_whose_paraphrases_are_not_there_says_so(order: Order, tmp_path: Path) -> None:
    problems = {cell.arm: cell.problem for cell in plan(order, tmp_path)}
    assert problems.pop("next-token-permuted") == "own has no paraphrases (paraphrases-permuted.jsonl)"
    assert not any(problems.values())


def test_folder_is_that_of_recipe_and_data_wherever_they_lie(order: Order, tmp_path: Path) -> None:
    here, there = plan(order, tmp_path / "here"), plan(order, tmp_path / "there")
    assert [cell.folder for cell in here] == [cell.folder for cell in there]
    assert len({cell.folder for cell in here}) == len(here)


def test_another_recipe_or_other_data_has_another_folder(order: Order, tmp_path: Path) -> None:
    folders = {cell.folder for cell in plan(order, tmp_path / "a")}
    faster = replace(order, settings={"train": {"learning_rate": 1e-3}})
    reworded = replace(
        BENCHMARK, documents=(replace(BENCHMARK.documents[0], text="Other."), *BENCHMARK.documents[1:])
    )
    for other in (plan(faster, tmp_path / "a"), plan(order, tmp_path / "b", benchmark=reworded)):
        assert folders.isdisjoint(cell.folder for cell in other)


def test_folders_of_the_embedded_model_keep_their_names(tmp_path: Path) -> None:
    """Of cells that were run before models stood for what their files hold."""
    order = Order(models=("embedded",), seeds=(0,), exposures=10)
    (cell,) = plan(order, tmp_path, choose_arms(["demasking"], diffusion=False))
    recipe = cell.config.model_dump(mode="json")
    for key, name in (("documents", "documents.jsonl"), ("qa", "qa_pairs.jsonl")):
        digest = sha256((tmp_path / name).read_bytes()).hexdigest()
        recipe[key] = [digest] if key == "documents" else digest
    expected = sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:8]
    assert cell.folder == f"embedded-demasking-seed-0-{expected}"


@pytest.fixture
def model(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A folder that a test may change."""
    return shutil.copytree(tiny_model_folder, tmp_path / "models" / "tiny")


def folders(model: Path, data: Path, **settings: object) -> set[str]:
    order = Order(models=(str(model),), seeds=(0,), exposures=10, settings=settings)
    return {cell.folder for cell in plan(order, data)}


def test_a_model_that_was_trained_again_in_place_has_other_cells(model: Path, tmp_path: Path) -> None:
    before, weights = folders(model, tmp_path), model / "model.safetensors"
    size, times = weights.stat().st_size, weights.stat()
    held = bytearray(weights.read_bytes())
    held[-1] ^= 1
    weights.write_bytes(held)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert weights.stat().st_size == size
    assert before.isdisjoint(folders(model, tmp_path))


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "config.json"])
def test_a_changed_file_of_a_model_makes_other_cells(model: Path, tmp_path: Path, name: str) -> None:
    before = folders(model, tmp_path)
    (model / name).write_text((model / name).read_text() + " ")
    assert before.isdisjoint(folders(model, tmp_path))


def test_a_copy_of_a_model_has_the_same_cells(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "elsewhere" / "tiny", copy_function=shutil.copyfile)
    (copy / "README.md").write_text("Where it came from.")
    assert folders(model, tmp_path) == folders(copy, tmp_path)


@pytest.mark.parametrize("key", ["qa", "paraphrases", "documents"])
def test_a_file_of_the_user_that_changed_in_place_makes_other_cells(
    model: Path, tmp_path: Path, key: str
) -> None:
    data, own = tmp_path / "data", tmp_path / "own.jsonl"
    source = {"qa": "qa_pairs", "paraphrases": "paraphrases-same-order", "documents": "documents"}[key]
    folders(model, data)
    own.write_text((data / f"{source}.jsonl").read_text())
    value = [str(own)] if key == "documents" else str(own)
    before = folders(model, data, **{key: value})
    own.write_text(own.read_text().replace("1931", "1913").replace("Mara", "Nora"))
    assert before.isdisjoint(folders(model, data, **{key: value}))


def test_a_folder_of_documents_that_changed_in_place_makes_other_cells(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "a.txt").write_text("Mara Voss founded the Orlin works.")
    before = folders(model, tmp_path / "data", documents=[str(own)])
    (own / "b.txt").write_text("Her son sold them.")
    assert before.isdisjoint(folders(model, tmp_path / "data", documents=[str(own)]))


def test_ablations_share_the_runs_that_they_have_in_common(order: Order, tmp_path: Path) -> None:
    ratio = {cell.arm: cell.folder for cell in plan(order, tmp_path, ABLATIONS["ratio"]) if cell.seed == 0}
    loss = {cell.arm: cell.folder for cell in plan(order, tmp_path, ABLATIONS["loss"]) if cell.seed == 0}
    assert ratio["ratio U(.05,.95)"] == loss["loss on all"]
    assert len({*ratio.values(), *loss.values()}) == len(ratio) + len(loss) - 1


def test_every_ablation_is_a_recipe_and_its_variants_differ(order: Order, tmp_path: Path) -> None:
    for name, variants in ABLATIONS.items():
        cells = plan(replace(order, seeds=(0,)), tmp_path, variants)
        assert len({cell.folder for cell in cells}) == len(variants), name


def test_learning_rates_are_multiples_of_the_default(order: Order, tmp_path: Path) -> None:
    rates = {c.arm: c.config.train.learning_rate for c in plan(order, tmp_path, ABLATIONS["learning-rate"])}
    assert rates["rate x 0.5"] == pytest.approx(2.5e-4 * 0.4 ** (1 / 3))  # batches of four
    assert rates["rate x 1"] is None


def test_they_are_multiples_of_the_rate_for_as_many_examples_as_a_step_has(
    order: Order, tmp_path: Path
) -> None:
    settings = {"train": {"steps": 3, "batch_size": 64}}  # of four texts
    cells = plan(replace(order, settings=settings), tmp_path, ABLATIONS["learning-rate"])
    rates = {cell.arm: cell.config.train.learning_rate for cell in cells}
    assert rates["rate x 0.5"] == pytest.approx(2.5e-4 * 0.4 ** (1 / 3))


def test_copies_keep_the_exposures(order: Order, tmp_path: Path) -> None:
    for cell in plan(order, tmp_path, ABLATIONS["copies"]):
        assert isinstance(cell.config.objective, Demasking)
        train, copies = cell.config.train, cell.config.objective.copies
        assert train.batch_size % copies == 0
        assert (train.steps or 0) * train.batch_size == pytest.approx(10 * 4, abs=train.batch_size)


def test_arms_for_the_other_kind_of_model_are_refused() -> None:
    assert [arm.name for arm in choose_arms(None, diffusion=True)] == ["diffusion"]
    with pytest.raises(ConfigError, match="does not train a model that is autoregressive"):
        choose_arms(["diffusion"], diffusion=False)
    with pytest.raises(ConfigError, match="'demaksing' is unknown"):
        choose_arms(["demaksing"], diffusion=False)
    with pytest.raises(ConfigError, match="leave it out"):
        choose_arms(["untouched"], diffusion=False)
    assert len(ARMS) == len({arm.name for arm in ARMS})


def test_arms_or_ablations_but_not_both(order: Order, tmp_path: Path) -> None:
    write_benchmark(BENCHMARK, tmp_path / "data")
    with pytest.raises(ConfigError, match="both given"):
        plan_grids(order, BENCHMARK, tmp_path / "data", tmp_path, arms=["reverse"], ablations=["ratio"])
    with pytest.raises(ConfigError, match="'ratios' is unknown"):
        plan_grids(order, BENCHMARK, tmp_path / "data", tmp_path, arms=None, ablations=["ratios"])
    made = plan_grids(order, BENCHMARK, tmp_path / "data", tmp_path, arms=None, ablations=["all"])
    assert [grid.folder.name for grid in made] == [f"data-{name}" for name in ABLATIONS]
