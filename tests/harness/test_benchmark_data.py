"""Where the questions of a task come from, and what is said when they cannot be had."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from demask.errors import ConfigError, DataError, DemaskError, RunError
from demask.harness.benchmark import run_benchmark
from demask.harness.results import AskedQuestion, TaskResult, collect_results, compare_results
from demask.harness.tasks import LOCAL, Asking, PlannedTask, parse_data, plan_task, write_questions


def converted(task: str, row: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "ours.jsonl").write_text(json.dumps(row) + "\n")
    write_questions(tmp_path / "ours.jsonl", LOCAL[task].convert, tmp_path / "theirs.jsonl")
    return json.loads((tmp_path / "theirs.jsonl").read_text())


@pytest.mark.smoke
def test_choices_of_arc_become_text_label_and_answer_key(tmp_path: Path) -> None:
    row = converted("arc_easy", {"question": "Why?", "choices": ["x", "y", "z"], "answer": 2}, tmp_path)
    assert row["choices"] == {"text": ["x", "y", "z"], "label": ["A", "B", "C"]}
    assert row["answerKey"] == "C"


def test_a_row_in_the_form_of_the_hub_stays_as_it_is(tmp_path: Path) -> None:
    row = {"question": "Why?", "choices": {"text": ["x"], "label": ["1"]}, "answerKey": "1"}
    assert converted("arc_challenge", row, tmp_path) == row


def test_instructions_of_ifeval_lose_the_prefix_of_their_language(tmp_path: Path) -> None:
    row = {"key": 1, "prompt": "Say.", "instruction_id_list": ["en:punctuation:no_comma"], "kwargs": [{}]}
    assert converted("ifeval", row, tmp_path)["instruction_id_list"] == ["punctuation:no_comma"]


@pytest.mark.smoke
def test_whole_answers_of_svamp_are_written_without_a_point(tmp_path: Path) -> None:
    assert converted("svamp", {"question": "?", "answer": 51.0}, tmp_path)["answer"] == "51"
    assert converted("svamp", {"question": "?", "answer": 0.5}, tmp_path)["answer"] == "0.5"


def test_boolq_without_a_passage_is_asked_as_a_question_alone(sets: Path, model_folder: str) -> None:
    found = run_benchmark([model_folder], ["boolq"], asking=Asking(raw=True, limit=1))
    from hashlib import sha256

    prompt = "Question: is 0 a number?\nAnswer:"
    assert found.results[0].questions[0].prompt == sha256(prompt.encode()).hexdigest()
    assert "without the passages" in found.results[0].note


def test_a_file_that_is_given_takes_the_place_of_the_one_that_lies_here(
    sets: Path, model_folder: str, tmp_path: Path
) -> None:
    rows = [{"question": "Two?", "answer": "#### 2"}, {"question": "Three?", "answer": "#### 3"}]
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    data = parse_data([f"gsm8k={tmp_path / 'mine.json'}"], ["gsm8k"])
    found = run_benchmark([model_folder], ["gsm8k"], data=data, asking=Asking(max_new_tokens=4))
    assert found.results[0].of == 2
    assert found.results[0].shots == 5


def test_any_task_takes_a_file_of_its_own_rows(model_folder: str, tmp_path: Path) -> None:
    rows = [
        {"problem": f"Add {n}.", "solution": f"It is $\\boxed{{{n}}}$.", "answer": str(n)} for n in range(3)
    ]
    (tmp_path / "math.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = parse_data([f"hendrycks_math500={tmp_path / 'math.jsonl'}"], ["hendrycks_math500"])
    asking = Asking(max_new_tokens=4)
    found = run_benchmark([model_folder], ["hendrycks_math500"], data=data, asking=asking)
    assert [measure.metric for measure in found.results[0].measures] == ["exact_match,none"]
    assert found.results[0].asked == 3


def test_instructions_are_checked_by_the_harness_own_checkers(
    sets: Path,
    model_folder: str,
    tmp_path: Path,
    script: Callable[[Sequence[str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import nltk

    # Only looked for: no instruction below counts sentences.
    (tmp_path / "nltk/tokenizers/punkt_tab").mkdir(parents=True)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])
    names = ["en:punctuation:no_comma", "en:length_constraints:number_words"]
    words = {"relation": "at least", "num_words": 3}
    rows = [
        {"key": 1, "prompt": "Say.", "instruction_id_list": names[:1], "kwargs": [{}]},
        {"key": 2, "prompt": "Say it.", "instruction_id_list": names, "kwargs": [{}, words]},
    ]
    path = sets / "retention/ifeval_prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    script(["no comma", "two words"])
    found = run_benchmark([model_folder], ["ifeval"], asking=Asking(max_new_tokens=8))
    values = {measure.metric: measure.value for measure in found.results[0].measures}
    assert values["prompt_level_strict_acc,none"] == 1 / 2
    assert values["inst_level_strict_acc,none"] == pytest.approx(2 / 3)


def test_without_the_list_of_sentence_ends_ifeval_says_how_to_get_it(
    sets: Path, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(nltk, "download", lambda name: False)
    row = {"key": 1, "prompt": "Say.", "instruction_id_list": [], "kwargs": []}
    (sets / "retention/ifeval_prompts.jsonl").write_text(json.dumps(row) + "\n")
    assert "punkt_tab" in _refusal(RunError, lambda: run_benchmark([model_folder], ["ifeval"]))


def test_a_group_without_network_names_its_tasks(model_folder: str) -> None:
    message = _refusal(DataError, lambda: run_benchmark([model_folder], ["hendrycks_math"]))
    assert "hendrycks_math_algebra" in message
    assert "--data TASK=FILE" in message


def _refusal(error: type[DemaskError], act: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("option", "error", "words"),
    [
        ("gsm8k", ConfigError, "expected TASK=FILE"),
        ("gsm8k=test.txt", ConfigError, "expected TASK=FILE"),
        ("gsmk=test.jsonl", ConfigError, "did you mean 'gsm8k'"),
        ("gsm8k=nowhere.jsonl", DataError, "no such file"),
    ],
)
def test_an_unusable_data_option_is_refused(option: str, error: type[DemaskError], words: str) -> None:
    assert words in _refusal(error, lambda: parse_data([option], ["gsm8k"]))


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    assert "did you mean 'arc_easy'" in _refusal(ConfigError, lambda: plan_task("arc_eazy", {}))


def test_a_group_takes_no_file(tmp_path: Path) -> None:
    given = {"": tmp_path / "math.jsonl"}
    assert "ask its tasks by name" in _refusal(ConfigError, lambda: plan_task("hendrycks_math", given))


def test_a_split_that_a_task_lacks_is_refused(sets: Path) -> None:
    given = {"dev": sets / "gsm8k/test.jsonl"}
    assert "has no such split, expected test, train" in _refusal(
        ConfigError, lambda: plan_task("gsm8k", given)
    )


def test_missing_worked_examples_are_asked_for(sets: Path) -> None:
    (sets / "gsm8k/train.jsonl").unlink()
    assert "--data gsm8k:train=FILE" in _refusal(ConfigError, lambda: plan_task("gsm8k", {}))


def test_without_network_and_file_one_line_says_which_task_and_what_to_do(model_folder: str) -> None:
    message = _refusal(DataError, lambda: run_benchmark([model_folder], ["hellaswag"]))
    assert message.startswith(
        "hellaswag: its questions (Rowan/hellaswag on the Hugging Face hub) cannot be had"
    )
    assert "--data hellaswag=FILE" in message


def test_svamp_without_its_file_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMASK_DATA", str(tmp_path))
    assert "--data svamp=FILE" in _refusal(DataError, lambda: plan_task("svamp", {}))


def test_a_file_of_other_columns_is_refused_without_its_text(model_folder: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"Frage": "Zyx?", "Correct Answer": "Qorrect"}\n')
    data = {"gpqa_diamond_zeroshot": {"": tmp_path / "rows.jsonl"}}
    message = _refusal(DataError, lambda: run_benchmark([model_folder], list(data), data=data))
    assert "no column 'Incorrect Answer 1'" in message
    assert "Qorrect" not in message


def test_a_task_that_runs_what_the_model_writes_is_refused(model_folder: str, tmp_path: Path) -> None:
    row = {
        "task_id": "h/0",
        "prompt": "def f():",
        "test": "pass",
        "entry_point": "f",
        "canonical_solution": "",
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    data = {"humaneval": {"": tmp_path / "rows.jsonl"}}
    with pytest.raises(DemaskError, match="humaneval"):
        run_benchmark([model_folder], ["humaneval"], data=data)


def test_without_the_harness_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    message = _refusal(RunError, lambda: run_benchmark(["embedded"], ["gsm8k"]))
    assert "pip install 'demask[lm-eval]'" in message


def test_a_name_that_stands_twice_is_refused() -> None:
    assert "stands twice" in _refusal(ConfigError, lambda: run_benchmark(["embedded"], ["gsm8k", "gsm8k"]))


def _result(numbers: range) -> TaskResult:
    questions = tuple(AskedQuestion(number, {"acc,none": 1.0}) for number in numbers)
    return TaskResult("m", "arc_easy", "arc_easy", {}, (), questions, 9, len(numbers), 0, "1")


def test_models_that_were_asked_other_questions_are_not_compared() -> None:
    assert "same questions" in _refusal(
        DataError, lambda: compare_results(_result(range(3)), _result(range(4)))
    )


def test_a_group_has_a_row_of_its_own_besides_those_of_its_tasks() -> None:
    sample = {"doc_id": 0, "metrics": ["acc"], "filter": "none", "acc": 1.0, "prompt_hash": "x"}
    choice = {**sample, "resps": [[(-1.0, True)], [(-2.0, False)]], "filtered_resps": [(-1.0, True)]}
    score = {"acc,none": 1.0, "acc_stderr,none": "N/A"}
    found = {
        "samples": {"one": [choice], "two": [choice]},
        "results": {"one": score, "two": score},
        "groups": {"both": {"acc,none": 1.0, "acc_stderr,none": 0.1}},
        "n-samples": {name: {"original": 5, "effective": 1} for name in ("one", "two")},
        "n-shot": {},
        "versions": {},
    }
    results = collect_results("m", PlannedTask("both", None, {}, {}, {}), found, {}, {})
    assert [(result.task, result.asked, result.of) for result in results] == [
        ("one", 1, 5),
        ("two", 1, 5),
        ("both", 2, 10),
    ]
    assert results[-1].measures[0].low == pytest.approx(1 - 1.96 * 0.1)


@pytest.mark.smoke
def test_several_scores_of_one_question_stand_or_fall_together() -> None:
    """IFEval's instructions: ten of one prompt are worth no more than one."""
    samples = [
        {
            "doc_id": number,
            "metrics": ["inst"],
            "filter": "none",
            "inst": [bool(number % 2)] * 10,
            "prompt_hash": "x",
            "resps": [["words"]],
            "filtered_resps": ["words"],
        }
        for number in range(4)
    ]
    found = {
        "samples": {"t": samples},
        "results": {"t": {"inst,none": 0.5, "inst_stderr,none": "N/A"}},
        "n-samples": {"t": {"original": 4, "effective": 4}},
        "n-shot": {"t": 0},
        "versions": {"t": 1},
    }
    measure = collect_results("m", PlannedTask("t", None, {}, {}, {}), found, {}, {})[0].measures[0]
    assert measure.low is not None
    assert measure.low < 0.1


def test_of_a_written_answer_to_gpqa_only_the_choice_is_kept() -> None:
    def answer(extracted: str) -> object:
        sample = {"doc_id": 0, "metrics": ["m"], "filter": "f", "m": 1.0, "prompt_hash": "x"}
        words = {**sample, "resps": [["The question asks about Zyx, so (B)."]], "filtered_resps": [extracted]}
        found = {
            "samples": {"gpqa_cot": [words]},
            "results": {"gpqa_cot": {"m,f": 1.0}},
            "n-samples": {"gpqa_cot": {"original": 1, "effective": 1}},
            "n-shot": {"gpqa_cot": 0},
            "versions": {},
        }
        result = collect_results("m", PlannedTask("gpqa_cot", None, {}, {}, {}), found, {}, {})[0]
        assert result.questions[0].prompt == ""
        return result.questions[0].answer

    assert answer("(B)") == "(B)"
    assert answer("Zyx, so (B).") is None
