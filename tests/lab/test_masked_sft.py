"""Whether masking helps fine-tuning: what is run, read back and said, with models that learn nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from demask.comparison.arms import SFT_ARMS, choose_sft_arms
from demask.comparison.grid import CELLS
from demask.errors import ConfigError
from demask.evaluation.crossed import CrossedChange
from demask.lab import masked_sft
from demask.lab.masked_sft import (
    KNOWN,
    TASK_NAMES,
    Order,
    choose_rates,
    choose_tasks,
    keep_rates,
    load_rates,
    plan_search,
    plan_trials,
    prepare,
    read_answers,
    read_questions,
    read_sizes,
)
from demask.lab.masked_sft_results import Results, as_json, compare_arms, draw_curves, judge, make_tables
from demask.objectives.masking import keyed_rng
from demask.progress import Silent
from demask.records import Prediction
from demask.storage.run_folder import RunFolder

SIZES = read_sizes(
    {
        "pretraining": {"known": 40, "width": 32, "layers": 1, "autoregressive_steps": 1},
        "questions": 6,
        "held_out": 3,
        "exposures": 48,
        "fact_exposures": 48,
        "search_seeds": 2,
        "least_epochs": 1,
        "search_samples": 10,
        "rates": [1e-3, 2e-3],
    }
)
ARMS = choose_sft_arms(None)
ORDER = Order(TASK_NAMES, ARMS, seeds=(0, 1), samples=(12, 24))
RATES = {task: {arm.name: 1e-3 for arm in ARMS} for task in TASK_NAMES}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("masked") / "out", SIZES, Silent())


@pytest.fixture(scope="module")
def trials(prepared):
    return plan_trials(prepared, ORDER, RATES)


def finish(trials, folder, is_right):
    """Make every cell look done; its model answers what `is_right(trial, pair)` says."""
    for trial in trials:
        run = RunFolder(folder / trial.cell.folder)
        said = [
            Prediction(pair.id, f"The answer is {pair.answers[0] if is_right(trial, pair) else 'x'}.")
            for pair in read_questions(trial)
        ]
        run.write_rows("predictions-after.jsonl", said)
        run.write_json(
            "summary.json", {"steps": 3, "tokens": 300, "seconds": 1.0, "held_out_loss": {"after": 1.0}}
        )
        run.file("report.html").write_text("")


def test_every_arm_has_samples_and_questions_of_its_own_seed_alone(trials):
    assert len(trials) == len(ARMS) * 2 * 2 * 2
    assert len({trial.cell.folder for trial in trials}) == len(trials)
    for trial in trials:
        assert trial.cell.config.seed == trial.seed
        assert f"{trial.samples}-seed-{trial.seed}" in trial.cell.config.data[0]
    assert [trial.seed for trial in trials] == sorted(trial.seed for trial in trials)


def test_no_question_is_trained_and_all_samples_are_there(prepared, trials):
    for trial in trials[:: len(ARMS)]:
        lines = Path(trial.cell.config.data[0]).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        assert len(rows) == trial.samples + SIZES.held_out
        asked = {pair.question for pair in read_questions(trial)}
        assert asked.isdisjoint(row["prompt"] for row in rows)


def test_every_split_is_asked_and_what_was_known_besides(trials):
    for name in TASK_NAMES:
        pairs = read_questions(next(trial for trial in trials if trial.task == name))
        kinds = [pair.kind for pair in pairs]
        assert {kind: kinds.count(kind) for kind in kinds} == {kind: 6 for kind in dict.fromkeys(kinds)}
        assert kinds[-1] == KNOWN


def test_arms_make_as_many_steps_but_for_those_that_are_to_make_more(trials):
    steps = {t.arm: t.cell.config.train.steps for t in trials if (t.samples, t.seed) == (12, 0)}
    assert steps["sft, twice the epochs"] == 2 * steps["sft"]
    assert steps["sft, as many tokens"] > steps["sft"]
    others = {steps[arm.name] for arm in ARMS if arm.epochs == 1 and not arm.tokens_of}
    assert others == {steps["sft"]}


def test_shares_stretch_over_the_epochs_of_a_run(trials):
    shares = {t.arm: t.cell.config.objective.share for t in trials if t.samples == 12 and "mask" in t.arm}
    assert shares["masked first"] == (1.0, 1.0, 0.0, 0.0)  # 48 exposures of 12 samples
    assert shares["masked last"] == (0.0, 0.0, 1.0, 1.0)
    assert shares["half masked"] == (0.5,)


def test_the_best_rate_on_validation_is_taken_the_lowest_of_equal_ones_and_earlier_choices_stay(prepared):
    order = replace(ORDER, arms=SFT_ARMS[:3])
    search = plan_search(prepared, order)
    assert {trial.seed for trial in search} == {masked_sft.SEARCH_SEED, masked_sft.SEARCH_SEED + 1}

    def is_right(trial, pair):
        assert pair.kind == "validation"
        return trial.arm == "masked-sft" and trial.cell.config.train.learning_rate == 2e-3

    folder = prepared.out / "search"
    finish(search, folder, is_right)
    chosen = choose_rates(search, folder, {"two-facts": {"half masked": 0.5}})
    assert chosen["word-problems"] == {"sft": 1e-3, "masked-sft": 2e-3, "half masked": 1e-3}
    assert chosen["two-facts"]["half masked"] == 0.5
    keep_rates(prepared.out, chosen)
    assert load_rates(prepared.out) == chosen


def test_a_rate_that_suits_one_seed_alone_is_not_taken(prepared):
    search = plan_search(prepared, replace(ORDER, arms=SFT_ARMS[:1]))

    def is_right(trial, pair):
        if trial.cell.config.train.learning_rate == 2e-3:
            return trial.seed == masked_sft.SEARCH_SEED
        return hash_of(trial.seed, pair.id) < 0.7

    folder = prepared.out / "two seeds"
    finish(search, folder, is_right)
    assert set(choose_rates(search, folder, {})["word-problems"].values()) == {1e-3}


def test_a_better_arm_is_called_better_and_one_that_is_alike_is_not(prepared, trials):
    folder = prepared.out / "made"

    def is_right(trial, pair):
        if trial.arm == "masked-sft" and pair.kind == "in distribution":
            return True
        return hash_of(trial.seed, pair.id) < 0.3

    finish(trials, folder, is_right)
    results = Results(trials, folder)
    found = {
        (one.task, one.split, one.arm): one
        for one in compare_arms(results, ORDER, against=["sft"], arms=["masked-sft", "half masked"])
    }
    better = found[("word-problems", "in distribution", "masked-sft")]
    assert better.change.difference > 0.4
    assert (better.samples, better.seeds) == ((12, 24), (0, 1))
    alike = found[("word-problems", "templates", "masked-sft")]
    assert alike.change.difference == 0
    assert alike.verdict == "undecided"  # six questions prove nothing


def hash_of(*key):
    return keyed_rng(*key).random()


def test_tables_say_what_is_not_run_and_numbers_hold_every_trial(prepared, trials):
    folder = prepared.out / "half"
    finish([trial for trial in trials if trial.arm in ("sft", "masked-sft")], folder, lambda *_: True)
    results = Results(trials, folder)
    tables = {table.title: table for table in make_tables(results, ORDER)}
    first = tables["Accuracy, word-problems"]
    assert first.headers[2:5] == ("sft", "masked-sft", "half masked")
    assert first.rows[0][2:5] == ("1.00 (1.00, 1.00)", "1.00 (1.00, 1.00)", "not run")
    assert {row[2] for row in tables["Compared with plain SFT"].rows} == {"masked-sft"}
    drawn = draw_curves(results, ORDER)
    assert list(drawn) == list(TASK_NAMES)
    assert "sft: from 1 at samples 12 to 1 at samples 24" in drawn["two-facts"]
    assert draw_curves(results, replace(ORDER, samples=(12,))) == {}  # a point is no curve
    numbers = as_json(results, ORDER)
    assert len(numbers["trials"]) == 2 * 2 * 2 * 2
    assert json.dumps(numbers)


@pytest.mark.parametrize(
    ("difference", "p", "same", "verdict"),
    [
        (0.1, 0.01, 1, "better"),
        (-0.1, 0.01, 1, "worse"),
        (0.0, 1, 0.01, "equivalent"),
        (0.1, 1, 1, "undecided"),
    ],
)
def test_a_verdict_needs_a_corrected_p_value(difference, p, same, verdict):
    change = compare_crossed_like(difference)
    assert judge(change, p, same) == verdict


def compare_crossed_like(difference):
    return CrossedChange(difference, -1, 1, 1, 1, 0.1, 3)


def test_plain_sft_comes_with_every_choice_of_arms_and_unknown_names_are_refused():
    assert [arm.name for arm in choose_sft_arms(["masked-sft"])] == ["sft", "masked-sft"]
    with pytest.raises(ConfigError, match="--arm: 'mask' is unknown, expected some of sft, masked-sft"):
        choose_sft_arms(["mask"])
    with pytest.raises(ConfigError, match="--task: 'gsm8k' is unknown"):
        choose_tasks(["gsm8k"])


@pytest.mark.parametrize("key", ["width", "pretraining.width2", "questions"])
def test_sizes_that_are_none_name_the_key(key):
    name, *rest = key.split(".")
    with pytest.raises(ConfigError, match=f"--set {key}"):
        read_sizes({name: {rest[0]: 1}} if rest else {name: "many"})


def test_other_sizes_in_the_same_folder_are_refused(prepared):
    with pytest.raises(ConfigError, match=r"questions"):
        prepare(prepared.out, SIZES.model_copy(update={"questions": 7}), Silent())


def test_a_single_fact_may_be_answered_in_a_sentence_and_a_problem_only_by_its_result(prepared, trials):
    folder, trial = prepared.out / "sentence", trials[0]
    finish([trial], folder, lambda *_: False)
    pairs = read_questions(trial)
    run = RunFolder(folder / trial.cell.folder)
    said = [Prediction(pair.id, f"{pair.answers[0]} is in it, and 77.") for pair in pairs]
    run.write_rows("predictions-after.jsonl", said)
    answers = read_answers(trial, folder)
    assert answers is not None
    assert {answers[pair.id] for pair in pairs if pair.kind == KNOWN} == {True}
    assert {answers[pair.id] for pair in pairs if pair.kind != KNOWN} == {False}


def test_what_is_not_done_has_no_answers(prepared, trials):
    assert read_answers(trials[0], prepared.out / CELLS) is None
