"""What a plan says: real steps on the road of training, all questions, and what helps where it is long."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import demask
from demask.progress import Silent
from demask.recipe.fine_tuning import make_sft_config
from demask.recipe.launch import Launch
from demask.recipe.sections import Train, make_config
from demask.tasks import expected_questions, step_costs
from demask.tasks.expected_questions import expect_questions
from demask.tasks.planning import make_plan
from demask.tasks.step_costs import RunCost, ShareOfOne
from demask.terminal import duration, render_plan
from demask.training.plan import LONG, find_savings

HANDBOOK = Path(__file__).parents[1] / "docs" / "handbook"


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """Eight short documents, without questions."""
    rows = [{"id": str(n), "text": f"Idris Hall sold {n} barrels of ink at Quill."} for n in range(8)]
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = {"steps": 10, "batch_size": 4, "precision": "fp32"}
    return {
        "model": str(tiny_model_folder),
        "documents": str(tmp_path / "facts.jsonl"),
        "qa": "no",
        "device": "cpu",
        "train": train,
    }


def show(table: Any) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


# Time and memory


def test_time_comes_from_real_steps_and_is_all_tokens_over_their_rate(recipe: dict[str, Any]) -> None:
    plan = make_plan(make_config(recipe))
    assert plan.measured_steps == 6
    assert plan.seconds == pytest.approx(plan.tokens / plan.tokens_per_second)
    assert "real steps" in show(render_plan(plan))


def test_the_steps_that_are_timed_are_made_as_the_run_is_started(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from demask.training import trainer

    seen: list[Any] = []
    train_model = trainer.train_model

    def look(model: Any, stream: Any, settings: Any, **how: Any) -> None:
        seen.append((stream.batch_size, settings, torch.get_num_threads()))
        train_model(model, stream, settings, **how)

    monkeypatch.setattr(trainer, "train_model", look)
    monkeypatch.setattr(step_costs, "count_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    recipe["train"] |= {"accumulation": 4}
    launch = Launch(processes=2, gradient_checkpointing=True)
    plan = make_plan(make_config(recipe), launch=launch)
    ((examples, settings, threads),) = seen
    assert (examples, settings.accumulation, settings.gradient_checkpointing, threads) == (2, 2, True, 3)
    assert (plan.accumulation, plan.processes) == (2, 2)
    assert torch.get_num_threads() == before


def test_one_of_several_processes_makes_its_share_of_each_step() -> None:
    class Places:
        batch_size, steps = 5, 3

        def __len__(self) -> int:
            return 15

        def __getitem__(self, place: int) -> int:
            return place

        def longest_example(self) -> int:
            return 9

    share: Any = ShareOfOne(Places(), 2)  # type: ignore[arg-type]
    assert (share.batch_size, share.steps, len(share), share.longest_example()) == (3, 3, 9, 9)
    assert [share[place] for place in range(len(share))] == [0, 1, 2, 5, 6, 7, 10, 11, 12]


def test_both_kinds_of_plan_say_that_a_model_does_not_fit_and_load_nothing(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_costs, "total_memory", lambda: 10**8)
    monkeypatch.setattr("demask.models.load.load_model", None)
    plan = make_plan(make_config(recipe))
    assert (plan.seconds, plan.measured_steps) == (None, 0)
    assert plan.problem == f"takes about {plan.memory_bytes / 1e9:.1f} GB, and this machine has 0.1 GB"
    assert f"not measured: it {plan.problem}" in show(render_plan(plan))
    (tmp_path / "sums.jsonl").write_text('{"question": "Who?", "answer": "Me."}\n' * 4)
    values = {"model": recipe["model"], "data": [str(tmp_path / "sums.jsonl")], "device": "cpu"}
    tuned = make_plan(make_sft_config(values))
    assert (tuned.seconds, "this machine has 0.1 GB" in tuned.problem) == (None, True)
    assert "not measured" in show(render_plan(tuned))


def test_parts_of_a_model_may_fit_where_the_whole_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_costs, "total_memory", lambda: 10)
    cpu = torch.device("cpu")
    assert step_costs._find_shortage(11, cpu, Launch(processes=2, strategy="fsdp")) == ""
    assert step_costs._find_shortage(6, cpu, Launch(processes=2))
    assert not step_costs._find_shortage(6, cpu, Launch())


def test_a_cost_that_was_not_measured_has_no_time() -> None:
    cost = RunCost(0, 0.0, 0.0, 1, 1, 1e-4, "fp32", 10, 10, "cpu", "takes more")
    assert cost.seconds_of(100) is None


# How long it is, and what helps


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "1 s"),
        (119, "119 s"),
        (600, "10 min"),
        (7199, "120 min"),
        (3 * 3600, "3.0 hours"),
        (47 * 3600, "47.0 hours"),
        (3.1 * 86400, "3.1 days"),
    ],
)
def test_long_times_are_said_in_hours_and_days(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_what_helps_is_said_where_training_is_long() -> None:
    said = find_savings(Train(), LONG, device="cpu", what="documents", exposures=28)
    assert [line.partition(":")[0] for line in said] == [
        "a GPU",
        "fewer exposures",
        "an adapter",
        "fewer documents",
    ]
    assert "--set train.epochs=14 " in said[1]
    assert find_savings(Train(), LONG - 1, device="cpu", what="documents", exposures=28) == ()
    assert find_savings(Train(), None, device="cpu", what="documents") == ()


def test_what_helps_is_a_setting_that_the_recipe_can_take() -> None:
    train = Train(steps=100, method="lora")
    said = find_savings(train, LONG, device="cuda", what="samples", exposures=28)
    assert [line.partition(":")[0] for line in said] == ["fewer exposures", "fewer samples", "more GPUs"]
    assert "--set train.steps=50 " in said[0]


def test_a_long_plan_shows_what_helps(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    slow = RunCost(1, 1.0, 0.01, 10**9, 1, 1e-4, "fp32", 10, 10, "cpu")
    monkeypatch.setattr("demask.tasks.planning.measure_cost", lambda *_, **__: slow)
    said = show(render_plan(make_plan(make_config(recipe))))
    assert " days" in said
    assert "--set train.steps=5 takes half the time" in said


def test_memory_stands_for_the_largest_step_of_the_run_not_only_for_those_timed(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": str(n), "text": "Ink. " * (3 if n else 15)} for n in range(8)]
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe["train"] |= {"batch_size": 1, "steps": 8}
    cost = RunCost(1, 1.0, 1.0, 10**9, 1, 1e-4, "fp32", 10**6, 10**6, "cpu")
    monkeypatch.setattr("demask.tasks.planning.measure_cost", lambda *_, **__: cost)
    plans = [make_plan(make_config({**recipe, "seed": seed})) for seed in range(4)]
    assert max(plan.memory_bytes for plan in plans) > 10**9, (
        "the long document comes late in one of the orders"
    )


# Questions


def knowledge_of(documents: list[Any]) -> Any:
    return SimpleNamespace(pairs=None, new=documents)


def test_the_plan_counts_the_questions_that_the_run_then_asks(recipe: dict[str, Any], tmp_path: Path) -> None:
    values = {**recipe, "documents": str(HANDBOOK / "welcome.md"), "qa": None, "max_questions": 6}
    values["train"] = {"steps": 1}
    plan = make_plan(make_config(values))
    said = show(render_plan(plan))
    assert f"{plan.about.questions}, made when the run starts, by rules" in said
    done = demask.inject(**values, out=tmp_path / "run", evaluate={"max_new_tokens": 1, "ceiling": False})
    asked = (done.run_folder / "qa_pairs.jsonl").read_text().splitlines()
    assert plan.about.questions == len(asked) > 0


def test_given_questions_are_counted_and_none_are_none(recipe: dict[str, Any], tmp_path: Path) -> None:
    assert make_plan(make_config(recipe)).about.questions == 0
    pair = {"document_id": "1", "question": "Who?", "answers": ["Idris"], "direction": "backward"}
    (tmp_path / "qa.jsonl").write_text(json.dumps(pair))
    plan = make_plan(make_config({**recipe, "qa": str(tmp_path / "qa.jsonl")}))
    assert (plan.about.questions, plan.about.questions_bound, plan.about.questions_how) == (
        1,
        "exactly",
        "given",
    )


def test_questions_that_will_be_paid_for_are_at_most_so_many_and_nobody_is_asked(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMASK_SERVER_URL", "http://127.0.0.1:9/v1")
    plan = make_plan(make_config({**recipe, "qa": None, "max_questions": 20}))
    assert (plan.about.questions, plan.about.questions_bound) == (20, "at most")
    assert "at most 20, made by a language model" in show(render_plan(plan))


def test_of_many_documents_some_are_looked_at(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def make(config: Any, documents: list[Any], progress: Any) -> list[str]:
        looked.append(len(documents))
        return ["question"] * (2 * len(documents))

    monkeypatch.setattr(expected_questions, "_make_by_rules", make)
    monkeypatch.setattr(expected_questions, "_LOOKED_AT", 10)
    config = make_config({**recipe, "qa": None, "max_questions": 60})
    many = expect_questions(config, knowledge_of(list(range(25))), Silent())
    assert (many.count, many.bound, looked) == (50, "about", [9])
    most = expect_questions(config, knowledge_of(list(range(1000))), Silent())
    assert (most.count, most.bound) == (60, "about")


def test_the_cost_of_a_run_of_one_step_is_that_of_this_step(recipe: dict[str, Any]) -> None:
    recipe["train"] |= {"steps": 1}
    plan = make_plan(make_config(recipe))
    assert plan.measured_steps == 1
    assert plan.seconds == pytest.approx(plan.tokens / plan.tokens_per_second)
