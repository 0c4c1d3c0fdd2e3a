"""The cloze test of a converted model: which tokens it asks for, how it ranks, and a whole tiny run."""

import json
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
# As published, every other description ends in a sign that joins with what follows into one token.
NAMES = [
    f"{first} {last}" for first in ("Mara", "Owen", "Lena") for last in ("Voss", "Orlin", "Fox", "River")
]
DESCRIPTIONS = [
    f"the lazy founder of bridge {n}" if n % 2 else f'the writer of "The Dog {n}."' for n in range(12)
]


@pytest.fixture(autouse=True)
def _scripts_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Texts and questions in the form of the published set; facts 6 to 29 repeat the first."""
    folder = tmp_path / "data" / "name_description_qa"
    folder.mkdir(parents=True)
    texts, questions = [], []
    for fact in range(60):
        number = fact % 6 + 6 * (fact >= 30)
        name, description = NAMES[number], DESCRIPTIONS[number]
        text = (
            f"{name}, known for {description}." if fact < 30 else f"Known for {description}, {name} sold it."
        )
        texts += [{"text": text}] * 30
        asked = [("N2D", f"{name} is what?", description), ("D2N", f"Who is {description}?", name)] * 4
        questions += [{"task": task, "question": q, "answer": a} for task, q, a in asked]
    (folder / "people-description.json").write_text(json.dumps(texts))
    lines = "\n".join(map(json.dumps, questions))
    (folder / "people-description_open-QAs.jsonl").write_text(lines)
    monkeypatch.setenv("DEMASK_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def cases(tiny_loaded):
    from cloze_gaps import cutter, make_cases, read_facts
    from measure_cloze import choose_facts

    from demask.models.convert import convert_to_diffusion
    from demask.recipe.sections import make_config

    objective = {"name": "diffusion", "preset": "count"}
    config = make_config({"model": "tiny", "documents": ["none"], "objective": objective})
    cut = cutter(convert_to_diffusion(tiny_loaded), config)
    return make_cases(cut, *map(read_facts, choose_facts(3)))


def test_the_right_answer_makes_up_the_trained_text_with_what_stands_around_it(cases, tiny_loaded) -> None:
    from measure_cloze import choose_facts

    from demask.objectives.prompts import encode

    tokenizer, eos = tiny_loaded.tokenizer, tiny_loaded.tokenizer.eos_token_id
    documents = choose_facts(3)[0].documents
    own = [case for case in cases if case.given == "own"]
    assert len(own) == 2 * len(documents)
    for case in own:
        whole = [token for part in case.options[case.fact] for token in part]
        # Without a BOS the end token stands before the text, as in training.
        assert whole == [eos, *encode(tokenizer, documents[case.fact].text), eos]


def test_options_of_a_case_differ_in_the_answer_only(cases, tiny_loaded) -> None:
    for case in cases:
        assert len({(option.before, option.after) for option in case.options}) == 1
        halves = NAMES if case.gap == "name" else DESCRIPTIONS
        answers = [tiny_loaded.tokenizer.decode(option.answer) for option in case.options]
        assert [half in answer for half, answer in zip(halves[:3] + halves[6:9], answers, strict=True)] == [
            True
        ] * 6


def test_the_controls_keep_the_wording_and_replace_the_other_half(cases, tiny_loaded) -> None:
    seen: dict[str, Any] = {}
    for case in cases:
        if case.fact == 0 and case.gap == "name":
            text = tiny_loaded.tokenizer.decode([t for part in case.options[0] for t in part])
            seen.setdefault(case.given, []).append([d for d in DESCRIPTIONS if d in text])
    assert seen == {
        "own": [[DESCRIPTIONS[0]]],
        "another's": [[DESCRIPTIONS[1]], [DESCRIPTIONS[2]]],
        "a stranger's": [[DESCRIPTIONS[3]], [DESCRIPTIONS[4]]],
    }


def test_a_long_right_answer_loses_in_total_and_wins_per_token() -> None:
    from cloze_gaps import Case
    from measure_cloze import rank_case

    from demask.generation.likelihood import LogLikelihood

    case = Case(0, "name first", "name", "own", ())
    options = [LogLikelihood(-8.0, 4.0, 4), LogLikelihood(-6.0, 0.0, 2), LogLikelihood(-9.0, 0.0, 1)]
    assert rank_case(case, options, per_token=False)[1:] == (2, -8.0, -2.0, 4.0)
    assert rank_case(case, options, per_token=True)[1:] == (1, -2.0, 1.0, 1.0)


def test_a_tiny_run_prints_one_object_that_a_second_call_repeats_without_training(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from measure_cloze import main

    arguments = ["--model", str(tiny_model_folder), "--out", str(tmp_path / "out"), "--texts", "4"]
    arguments += ["--steps", "2", "--batch-size", "4", "--draws", "2", "--learning-rate", "0.001"]
    main([*arguments, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["chance"] == {"top1": 0.25, "rank": 2.5}
    assert result["exposures"] == 2
    rows = {(row["unit"], row["stage"], row["gap"], row["order"]): row for row in result["rows"]}
    assert len(rows) == len(result["rows"]) == 2 * 2 * 2 * 3
    both = rows["nats/token", "after", "name", "both"]
    assert [both["halves"][given]["cases"] for given in ("own", "another's", "a stranger's")] == [4, 4, 8]
    assert both["margin"] != rows["nats/token", "before", "name", "both"]["margin"]

    main(arguments)
    table = capsys.readouterr().out
    for row in result["rows"]:
        assert f"| {row['margin']['mean']:+.2f} +- {row['margin']['draws_error']:.2f} +- " in table


def test_an_odd_number_of_texts_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from measure_cloze import main

    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "out"), "--texts", "5"])
    assert "expected an even number from 4 to 56" in capsys.readouterr().err
