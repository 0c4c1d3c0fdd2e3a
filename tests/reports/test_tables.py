"""Tables say what the run folder says, as strings."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from demask.errors import RunError
from demask.evaluation.metrics import Change, Estimate, contains
from demask.reports import tables
from demask.reports.runs import label_apart, load_run, load_runs
from demask.reports.tables import Table, correct_holm, to_markdown
from demask.reports.wording import (
    citation,
    clean,
    count,
    find_answer,
    headline,
    interval,
    p_value,
    percent,
    signed,
)
from demask.storage.run_folder import RunFolder

pytestmark = pytest.mark.smoke


def _mean_difference(before: Sequence[float], after: Sequence[float], clusters: Sequence[str]) -> Change:
    difference = (sum(after) - sum(before)) / len(before)
    documents = len(set(clusters))
    return Change(difference, difference, difference, 0.25, documents, documents)


def test_accuracy_table_has_a_row_per_arm_and_direction(make_run: Callable[..., RunFolder]) -> None:
    runs = load_runs([make_run("a", objective="next-token", wrong_backward=7), make_run("b")])
    table = tables.accuracy_table(runs)
    assert [row[:2] for row in table.rows] == [
        ("next-token", "forward"),
        ("next-token", "backward"),
        ("demasking", "forward"),
        ("demasking", "backward"),
    ]
    assert table.rows[1][3].startswith("0.12 [")
    assert table.rows[3][3].startswith("0.88 [")
    p_values = [
        run.changes[direction]["contains"].p_value for run in runs for direction in ("forward", "backward")
    ]
    shown = [f"p = {p_value:.3f}" for p_value in correct_holm(p_values)]
    assert [row[5].rpartition(", ")[2] for row in table.rows] == shown
    assert "corrected after Holm for the 4" in table.note
    assert {len(row) for row in table.rows} == {len(table.headers)}


def test_missing_ceiling_is_a_dash(make_run: Callable[..., RunFolder]) -> None:
    table = tables.accuracy_table([load_run(make_run(optional=False))])
    assert table.rows[0][4] == "–"


def test_outcomes_count_every_question_once(make_run: Callable[..., RunFolder]) -> None:
    table = tables.outcomes_table([load_run(make_run(wrong_backward=6))])
    assert table.headers[2:] == ("gained", "kept", "lost", "still wrong", "questions")
    assert table.rows == (
        ("demasking", "forward", "7", "1", "0", "0", "8"),
        ("demasking", "backward", "2", "0", "1", "5", "8"),
    )


def test_questions_without_scores_are_not_counted_as_wrong(make_run: Callable[..., RunFolder]) -> None:
    folder = make_run()
    folder.file("scores.jsonl").unlink()
    assert {row.outcome for row in load_run(folder).questions} == {"not scored"}


def test_difference_is_later_minus_earlier_on_shared_questions(make_run: Callable[..., RunFolder]) -> None:
    first, second = load_runs([make_run("a", objective="next-token", wrong_backward=7), make_run("b")])
    second = replace(second, questions=second.questions[2:])
    table = tables.difference_table([first, second], _mean_difference)
    assert [row[:2] for row in table.rows] == [
        ("demasking − next-token", "forward"),
        ("demasking − next-token", "backward"),
    ]
    # Documents 1 to 6 fail backward in the first arm, none of the seven shared ones in the second.
    assert table.rows[1][2].startswith(f"+{6 / 7:.2f} ")
    assert table.rows[1][3] == "7"


def test_p_values_of_differences_are_corrected_for_each_other(make_run: Callable[..., RunFolder]) -> None:
    runs = load_runs([make_run(name) for name in "abc"])
    compared: list[float] = []

    def compare(before: Sequence[float], after: Sequence[float], clusters: Sequence[str]) -> Change:
        compared.append([0.001, 0.2, 0.3, 0.4, 0.5, 0.6][len(compared)])
        return replace(_mean_difference(before, after, clusters), p_value=compared[-1])

    table = tables.difference_table(runs, compare)
    shown = [row[2].rpartition(", ")[2] for row in table.rows]
    assert shown == ["p = 0.006", *["p = 1.000"] * 5]
    assert "corrected after Holm for the 6 in this table" in table.note


def test_a_single_p_value_stays_as_it_is(make_run: Callable[..., RunFolder]) -> None:
    runs = load_runs([make_run(name, directions=("forward",)) for name in "ab"])
    table = tables.difference_table(runs, _mean_difference)
    assert [row[2].rpartition(", ")[2] for row in table.rows] == ["p = 0.250"]
    assert "Holm" not in table.note


def test_tables_with_p_values_say_that_another_seed_is_not_in_them(
    make_run: Callable[..., RunFolder],
) -> None:
    runs = load_runs([make_run("a"), make_run("b")])
    for table in (tables.accuracy_table(runs), tables.difference_table(runs, _mean_difference)):
        assert "another seed of training may end otherwise" in table.note


def test_arms_without_shared_questions_have_no_difference(make_run: Callable[..., RunFolder]) -> None:
    runs = load_runs([make_run("a", directions=("forward",)), make_run("b", directions=("backward",))])
    assert tables.difference_table(runs, _mean_difference).rows == ()


def test_questions_of_one_id_that_ask_something_else_are_not_compared(
    make_run: Callable[..., RunFolder],
) -> None:
    first, second = load_runs([make_run("a", objective="next-token"), make_run("b")])
    others = tuple(replace(row, question=f"{row.question} And why?") for row in second.questions)
    assert tables.difference_table([first, replace(second, questions=others)], _mean_difference).rows == ()


def test_cost_table_reads_the_summary(make_run: Callable[..., RunFolder]) -> None:
    (row,) = tables.cost_table([load_run(make_run())]).rows
    assert row == ("demasking", "120", "8", "150", "76,800", "3.8", "2.84 GB", "100%")


def test_curve_tables_keep_first_and_last_step(make_run: Callable[..., RunFolder]) -> None:
    run = load_run(make_run())
    rows = tables.loss_table([run]).rows
    assert len(rows) == tables.CURVE_ROWS
    assert (rows[0][1], rows[-1][1]) == ("1", "120")
    assert [row[2] for row in tables.accuracy_steps_table([run]).rows][-1] == "120"


def test_metrics_table_shows_strict_metrics_beside_recall(make_run: Callable[..., RunFolder]) -> None:
    table = tables.metrics_table([load_run(make_run())])
    assert table.headers[3:] == ("contains", "exact match", "F1", "ROUGE-1 recall")
    assert len(table.rows) == 6


def test_markdown_cells_cannot_break_out() -> None:
    hostile = "a|b\nc <script> `x` ![i](http://e.vil) [t](http://e.vil) \\"
    text = to_markdown(Table("t", ("h",), ((hostile,),)))
    line = text.splitlines()[2]
    assert len(text.splitlines()) == 3
    assert line.count("|") - line.count("\\|") == 2
    assert "<" not in line
    assert "](" not in line
    assert line.endswith("\\\\ |")


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (interval(Estimate(0.9333, 0.871, 0.966, 40)), "0.93 [0.87, 0.97]"),
        (interval(None), "–"),
        (interval(Estimate(float("nan"), 0.0, 1.0, 0)), "– [0.00, 1.00]"),
        (signed(-0.004), "0.00"),
        (signed(-0.25), "−0.25"),
        (p_value(0.0002), "p < 0.001"),
        (p_value(float("nan")), "p unknown"),
        (count(12345), "12,345"),
        (count(37.5), "37.5"),
        (percent(0.99999), "99.9%"),
        (clean("a\x00b\ud800c\n"), "a\ufffdb\ufffdc\n"),
    ],
)
def test_numbers_are_written_for_people(shown: str, expected: str) -> None:
    assert shown == expected


def test_answer_is_found_as_whole_words_only() -> None:
    assert find_answer("It was 25.", ("5",)) is None
    assert find_answer("It was mara voss, they say", ("Voss", "Mara Voss")) == (7, 16)
    assert find_answer("anything", ("", " ")) is None


@pytest.mark.parametrize(
    ("text", "answer", "marked"),
    [
        ("It cost $1,200.", "1200", "$1,200"),
        ("It was 1.5.", "5", None),
        ("It is C++.", "C", None),
        ("Voss’s idea", "Voss", "Voss’s"),
        ("The bath-tub.", "bathtub", "bath-tub"),
        ("the U.S. grid", "the US", "U.S"),
        ("工厂由莫拉创立。", "莫拉", "莫拉"),
        ("Ｖｏｓｓ", "voss", "Ｖｏｓｓ"),  # noqa: RUF001 (fullwidth)
    ],
)
def test_an_answer_is_marked_where_the_scorer_finds_it(text: str, answer: str, marked: str | None) -> None:
    found = find_answer(text, (answer,))
    assert (found and text[slice(*found)]) == marked
    assert (found is not None) == bool(contains(text, (answer,)))


def test_headline_names_floor_and_ceiling(make_run: Callable[..., RunFolder]) -> None:
    run = load_run(make_run())
    assert headline(run) == (
        "After 120 steps on 8 documents, SmolLM2-135M-Instruct answers 1.00 [0.90, 1.00] of the forward and "
        "0.88 [0.65, 1.00] of the backward questions; before: 0.12 and 0.12; "
        "with the document in the prompt: 1.00 and 1.00."
    )


def test_citation_carries_all_that_the_number_depends_on(make_run: Callable[..., RunFolder]) -> None:
    run = load_run(make_run())
    said = citation(run)
    for part in (
        "SmolLM2-135M-Instruct",
        "demask 0.1.0",
        "objective demasking",
        "120 steps",
        "seed 0",
        "n = 8",
        "contains",
    ):
        assert part in said
    assert run.config_sha256[:12] in said


def test_runs_of_one_objective_are_told_apart(make_run: Callable[..., RunFolder]) -> None:
    runs = load_runs([make_run("a"), make_run("b")])
    assert [run.label for run in runs] == ["demasking (a)", "demasking (b)"]
    same = label_apart([runs[0], runs[0]])
    assert len({run.label for run in same}) == 2


def test_folder_without_summary_is_an_error_that_names_the_file(make_run: Callable[..., RunFolder]) -> None:
    folder = make_run()
    folder.file("summary.json").unlink()
    with pytest.raises(RunError, match=r"summary\.json: no such file"):
        load_run(folder)


def test_summary_of_another_shape_is_an_error(make_run: Callable[..., RunFolder]) -> None:
    folder = make_run()
    folder.write_json("summary.json", {"model": "m"})
    with pytest.raises(RunError, match="'objective'"):
        load_run(folder)
