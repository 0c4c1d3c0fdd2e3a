"""Models asked through the harness, from files on this machine to tables."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from demask.errors import ConfigError, RunError
from demask.harness.benchmark import hushed, run_benchmark
from demask.harness.results import Benchmarked, benchmark_tables
from demask.harness.tasks import Asking, parse_data
from demask.progress import Silent

SHORT = Asking(limit=4, max_new_tokens=4)
ANSWERS = (
    "800",
    "It is $900.",
    "First 500, then 1,000 pears.",
    "#### 1,100",
    "1200.",
    "none",
    "",
    "The answer is 1,500 (or 15)",
    "1,600.0",
    "17,00",
)


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.said: list[str] = []
        self.advanced = self.expected = 0

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        self.begun.append(phase)
        self.expected += total

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        self.advanced += parts

    def say(self, text: str) -> None:
        self.said.append(text)


def read_samples(folder: Path, task: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"samples-{task}.jsonl").read_text().splitlines()]


def value_of(found: Benchmarked, task: str, metric: str, model: str | None = None) -> float:
    return next(
        measure.value
        for result in found.results
        if result.task == task and model in (None, result.model)
        for measure in result.measures
        if measure.metric == metric
    )


def score_independently(answer: str, solution: str) -> bool:
    """As shared/data/gsm8k/README.md has it: the last number against the one behind ####."""
    numbers = re.findall(r"-?[\d,.$]*\d[\d,.$]*", answer)
    last = numbers[-1].replace(",", "").replace("$", "").rstrip(".") if numbers else ""
    return last == solution.split("####")[1].strip().replace(",", "")


def test_gsm8k_score_is_what_saved_answers_give_when_scored_independently(
    sets: Path, model_folder: str, tmp_path: Path, script: Callable[[Sequence[str]], None]
) -> None:
    script(ANSWERS)
    found = run_benchmark([model_folder], ["gsm8k"], out=tmp_path / "out")
    solutions = [json.loads(line)["answer"] for line in (sets / "gsm8k/test.jsonl").read_text().splitlines()]
    saved = read_samples(tmp_path / "out", "gsm8k")
    assert [row["answer"] for row in saved] == list(ANSWERS)
    expected = [score_independently(row["answer"], solutions[row["question"]]) for row in saved]
    assert [row["scores"]["exact_match,flexible-extract"] for row in saved] == expected
    assert 0.3 < value_of(found, "gsm8k", "exact_match,flexible-extract") == sum(expected) / 10 < 0.8


def test_svamp_takes_the_last_number_whether_or_not_it_is_written_as_a_decimal(
    sets: Path, model_folder: str, script: Callable[[Sequence[str]], None]
) -> None:
    script(["So 3", "6.0", "It costs $9.", "12.5", "5"])
    found = run_benchmark([model_folder], ["svamp"])
    assert [each.scores["exact_match,flexible-extract"] for each in found.results[0].questions] == [
        1,
        1,
        1,
        0,
        0,
    ]


def test_choices_are_those_of_the_harness_called_by_hand_on_the_same_folder(
    sets: Path, model_folder: str, tmp_path: Path
) -> None:
    import lm_eval
    import yaml
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    found = run_benchmark([model_folder], ["arc_easy"])
    rows = [json.loads(line) for line in (sets / "retention/arc_easy.jsonl").read_text().splitlines()]
    by_hand = {
        "task": "by_hand",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "arc.jsonl")}, "cache_dir": str(tmp_path)},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "answer",
        "doc_to_choice": "choices",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    }
    (tmp_path / "arc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "by_hand.yaml").write_text(yaml.safe_dump(by_hand))
    with hushed():
        model = HFLM(pretrained=model_folder, device="cpu", dtype="float32", batch_size=3)
        tasks = TaskManager(include_defaults=False).load([str(tmp_path / "by_hand.yaml")])
        tasks["tasks"]["by_hand"].set_config(key="num_fewshot", value=0)
        expected = lm_eval.evaluate(model, tasks, apply_chat_template=True, fewshot_as_multiturn=True)
    for metric in ("acc,none", "acc_norm,none"):
        assert value_of(found, "arc_easy", metric) == expected["results"]["by_hand"][metric]
    chosen = [
        max(range(4), key=lambda n: sample["resps"][n][0][0]) for sample in expected["samples"]["by_hand"]
    ]
    assert [question.answer for question in found.results[0].questions] == chosen


def test_progress_tells_every_answer(sets: Path, model_folder: str) -> None:
    told = Told()
    run_benchmark([model_folder], ["arc_easy", "gsm8k"], asking=SHORT, progress=told)
    assert told.advanced == told.expected == 4 * 4 + 4


def test_a_model_and_task_that_were_asked_are_not_asked_again(
    sets: Path, model_folder: str, make_model_folder: Callable[..., str], tmp_path: Path
) -> None:
    out, other = tmp_path / "out", make_model_folder(1)
    first = run_benchmark([model_folder], ["arc_easy"], asking=SHORT, out=out)
    told = Told()
    both = run_benchmark([model_folder, other], ["arc_easy", "boolq"], asking=SHORT, out=out, progress=told)
    assert told.begun == [f"{model_folder}: boolq", f"{other}: arc_easy", f"{other}: boolq"]
    assert both.results[0].measures == first.results[0].measures
    assert both.results[0].questions == first.results[0].questions
    assert len(read_samples(out, "arc_easy")) == 8
    again = run_benchmark([model_folder, other], ["arc_easy", "boolq"], asking=SHORT, out=out)
    assert again.results == both.results
    assert again.differences == both.differences


def test_other_settings_ask_anew_and_say_so(sets: Path, model_folder: str, tmp_path: Path) -> None:
    told = Told()
    run_benchmark([model_folder], ["arc_easy"], asking=SHORT, out=tmp_path)
    more = Asking(limit=6)
    run_benchmark([model_folder], ["arc_easy"], asking=more, out=tmp_path, progress=told)
    assert "other settings" in told.said[0]
    assert len(read_samples(tmp_path, "arc_easy")) == 6


def test_a_model_trained_anew_in_the_same_folder_is_asked_anew(
    sets: Path, make_model_folder: Callable[..., str], make_model: Callable[..., Any], tmp_path: Path
) -> None:
    folder, told = make_model_folder(2), Told()
    run_benchmark([folder], ["arc_easy"], asking=SHORT, out=tmp_path)
    make_model(3, max_position_embeddings=2048).save_pretrained(folder)
    run_benchmark([folder], ["arc_easy"], asking=SHORT, out=tmp_path, progress=told)
    assert told.begun == [f"{folder}: arc_easy"]


def test_two_models_are_compared_on_the_same_questions_and_noise_is_called_noise(
    sets: Path, model_folder: str, make_model_folder: Callable[..., str]
) -> None:
    other = make_model_folder(1)
    found = run_benchmark([model_folder, other], ["arc_easy"])
    difference = found.differences[0]
    values = [value_of(found, "arc_easy", "acc,none", model) for model in (model_folder, other)]
    assert difference.change.difference == pytest.approx(values[1] - values[0])
    assert difference.change.n == 12
    assert difference.within_noise
    assert difference.p_holm >= difference.change.p_value
    assert "within noise" in benchmark_tables(found)[1].note


def test_no_value_is_shown_without_its_interval_and_its_number_of_questions(
    sets: Path, model_folder: str
) -> None:
    found = run_benchmark([model_folder], ["arc_easy", "gsm8k"], asking=SHORT)
    table = benchmark_tables(found)[0]
    assert {row[-1] for row in table.rows} == {"4 of 12", "4 of 10"}
    assert all(re.fullmatch(r"\[\d\.\d\d, \d\.\d\d\]", row[-2]) for row in table.rows)
    assert "5 for gsm8k" in table.note
    assert "A limit was set" in table.note


def test_a_prompt_that_leaves_no_room_for_the_answer_is_counted_and_named(
    sets: Path, model_folder: str, script: Callable[[Sequence[str]], None]
) -> None:
    script(["1"] * 4)
    counts = []
    for room in (4, 2000):  # of 2,048 tokens
        found = run_benchmark([model_folder], ["gsm8k"], asking=Asking(limit=4, max_new_tokens=room))
        counts.append(found.results[0].cut)
    assert counts == [0, 4]
    assert "4 prompts of gsm8k, which lost their beginning" in benchmark_tables(found)[0].note


def test_answers_as_long_as_the_context_are_refused(
    sets: Path, make_model_folder: Callable[..., str]
) -> None:
    with pytest.raises(ConfigError, match="answers may have 256 tokens, and the model was made for 256"):
        run_benchmark([make_model_folder(5, context=256)], ["gsm8k"])


def test_raw_prompts_have_no_chat_template(sets: Path, model_folder: str, tmp_path: Path) -> None:
    prompts = []
    for raw in (False, True):
        out = tmp_path / str(raw)
        run_benchmark([model_folder], ["arc_easy"], asking=Asking(limit=1, raw=raw), out=out)
        prompts.append(read_samples(out, "arc_easy")[0]["prompt"])
    from hashlib import sha256

    bare = "Question: Which is 0?\nAnswer:"
    chat = f"<|im_start|>user\n{bare}<|im_end|>\n<|im_start|>assistant\n"
    assert prompts == [sha256(text.encode()).hexdigest() for text in (chat, bare)]


def test_worked_examples_can_be_left_out_of_the_prompt(
    sets: Path, model_folder: str, tmp_path: Path, script: Callable[[Sequence[str]], None]
) -> None:
    script(ANSWERS[:1])
    found = run_benchmark([model_folder], ["gsm8k"], asking=Asking(limit=1, shots=0), out=tmp_path / "out")
    assert found.results[0].shots == 0
    question = json.loads((sets / "gsm8k/test.jsonl").read_text().splitlines()[0])["question"]
    chat = f"<|im_start|>user\nQuestion: {question}\nAnswer:<|im_end|>\n<|im_start|>assistant\n"
    from hashlib import sha256

    assert read_samples(tmp_path / "out", "gsm8k")[0]["prompt"] == sha256(chat.encode()).hexdigest()


def test_nothing_of_the_text_of_gpqa_is_written_or_printed(
    model_folder: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    head = "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n"
    rows = "".join(f'"Zyx{n}, why?",Qorrect{n},Wrang{n}a,Wrang{n}b,Wrang{n}c\n' for n in range(6))
    (tmp_path / "diamond.csv").write_text(head + rows)
    tasks = ["gpqa_diamond_zeroshot"]
    data = parse_data([f"{tasks[0]}={tmp_path / 'diamond.csv'}"], tasks)
    out = tmp_path / "out"
    found = run_benchmark([model_folder], tasks, data=data, out=out)
    printed = capfd.readouterr()
    seen = "".join(path.read_text() for path in out.iterdir()) + printed.out + printed.err
    assert not re.search("Zyx|Qorrect|Wrang", seen)
    saved = read_samples(out, tasks[0])
    assert {key for row in saved for key in row} == {"model", "question", "scores", "answer"}
    assert all(row["answer"] in range(4) for row in saved)
    assert found.results[0].of == 6


def test_the_order_of_gpqas_choices_depends_on_the_seed_alone(model_folder: str, tmp_path: Path) -> None:
    head = "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n"
    rows = "".join(f"why {n}?,right {n},wrong {n} a,wrong {n} b,wrong {n} c\n" for n in range(12))
    (tmp_path / "diamond.csv").write_text(head + rows)
    tasks = ["gpqa_diamond_zeroshot"]
    data = parse_data([f"{tasks[0]}={tmp_path / 'diamond.csv'}"], tasks)

    def scores(seed: int) -> list[Any]:
        found = run_benchmark([model_folder], tasks, data=data, asking=Asking(seed=seed))
        return [question.scores for question in found.results[0].questions]

    assert scores(1) == scores(1)
    assert any(scores(1) != scores(seed) for seed in (2, 3))


def test_the_command_prints_one_json_object_and_nothing_else(sets: Path, model_folder: str) -> None:
    from typer.testing import CliRunner

    from demask.cli import app

    words = [
        "benchmark",
        model_folder,
        "--tasks",
        "svamp,arc_easy",
        "--limit",
        "2",
        "--max-new-tokens",
        "4",
        "--json",
    ]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    printed = json.loads(result.stdout)
    assert [row["task"] for row in printed["results"]] == ["svamp", "arc_easy"]
    assert printed["results"][1]["measures"][0]["metric"] == "acc,none"
    assert printed["environment"]["harness"]["lm_eval"]


def test_an_earlier_file_of_another_kind_is_not_written_over(
    sets: Path, model_folder: str, tmp_path: Path
) -> None:
    (tmp_path / "benchmark.json").write_text('{"speed": 3}')
    with pytest.raises(RunError, match="not made by 'demask benchmark'"):
        run_benchmark([model_folder], ["arc_easy"], asking=SHORT, out=tmp_path)
    assert (tmp_path / "benchmark.json").read_text() == '{"speed": 3}'
