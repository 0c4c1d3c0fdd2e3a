"""Rows of any usual form become conversations, and what cannot be used is named with its line."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from demask.data.conversations import Columns, Turn, read_conversations
from demask.data.sources import find_tables
from demask.errors import DataError

pytestmark = pytest.mark.smoke

QUESTION, ANSWER = "Who founded Orlin?", "Mara Voss."
PAIR = [("user", QUESTION), ("assistant", ANSWER)]
SYSTEM = [("system", "Be brief."), *PAIR]
MESSAGES = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]


def write_lines(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(*paths: str, columns: Columns | None = None):
    return list(read_conversations(find_tables(paths).sources, columns or Columns()))


def read_row(folder: Path, row: object, columns: Columns | None = None):
    """The turns of one row, as pairs."""
    [conversation] = read(write_lines(folder / "data.jsonl", row), columns=columns)
    return [(turn.role, turn.text) for turn in conversation.turns]


@pytest.mark.parametrize("prompt", ["prompt", "question", "instruction", "problem", "query"])
@pytest.mark.parametrize("response", ["response", "answer", "completion", "output", "solution"])
def test_prompts_and_responses_are_found_by_their_usual_names(tmp_path, prompt, response):
    assert read_row(tmp_path, {"topic": 3, prompt: QUESTION, response: ANSWER}) == PAIR


@pytest.mark.parametrize(
    "row",
    [
        {"messages": MESSAGES},
        {"messages": [{**MESSAGES[0], "name": "Ann"}, MESSAGES[1]], "prompt": "not this"},
        {"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]},
        {"messages": None, "prompt": QUESTION, "response": ANSWER},
        {"prompt": f" \n{QUESTION}\r\n", "response": f"\t{ANSWER} "},
        {"instruction": QUESTION, "input": " ", "output": ANSWER},
    ],
)
def test_rows_of_different_forms_say_the_same(tmp_path, row):
    assert read_row(tmp_path, row) == PAIR


def test_input_of_an_alpaca_row_follows_its_instruction(tmp_path):
    row = {"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}
    assert read_row(tmp_path, row) == [("user", "Translate.\n\nGuten Tag"), ("assistant", "Good day")]


@pytest.mark.parametrize(
    "row",
    [
        {"system_prompt": "Be brief.", "question": QUESTION, "response": ANSWER},
        {"conversations": [{"from": "system", "value": "Be brief."}, *MESSAGES]},
    ],
)
def test_a_system_prompt_comes_first(tmp_path, row):
    assert read_row(tmp_path, row) == SYSTEM


def test_named_columns_are_taken_before_the_usual_ones(tmp_path):
    row = {
        "prompt": "no",
        "response": "no",
        "messages": None,
        "ask": QUESTION,
        "say": ANSWER,
        "talk": MESSAGES,
    }
    assert read_row(tmp_path, row, Columns(prompt="ask", response="say")) == PAIR
    assert read_row(tmp_path, row, Columns(messages="talk")) == PAIR


def test_all_kinds_of_files_hold_the_same_conversations(tmp_path):
    rows = [{"question": f"Question {n}?", "answer": f"Answer,\n{n}."} for n in range(3)]
    lines = write_lines(tmp_path / "a.jsonl", *rows)
    plain = write_lines(tmp_path / "b.json", *rows)
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    table = "".join(f'"{row["question"]}","{row["answer"]}"\n' for row in rows)
    (tmp_path / "d.csv").write_text(f"question,answer\n{table}", encoding="utf-8")
    address = f"hf://{tmp_path / 'c.parquet'}"
    kinds = [lines, plain, str(tmp_path / "c.parquet"), str(tmp_path / "d.csv"), address]
    turns = [[one.turns for one in read(path)] for path in kinds]
    assert turns[0] == [(Turn("user", r["question"]), Turn("assistant", r["answer"])) for r in rows]
    assert all(others == turns[0] for others in turns[1:])


@pytest.mark.parametrize("address", ["{}", "hf://{}"])
def test_messages_are_read_from_parquet(tmp_path, address):
    parquet.write_table(pa.Table.from_pylist([{"messages": MESSAGES}]), tmp_path / "c.parquet")
    [conversation] = read(address.format(tmp_path / "c.parquet"))
    assert [(turn.role, turn.text) for turn in conversation.turns] == PAIR


def test_one_json_array_is_read_as_a_data_set(tmp_path):
    path = tmp_path / "alpaca.json"
    path.write_text(
        json.dumps([{"instruction": QUESTION, "input": "", "output": ANSWER}] * 2), encoding="utf-8"
    )
    found = read(f"hf://{path}")
    assert [turn.text for one in found for turn in one.turns] == [QUESTION, ANSWER] * 2


def test_conversations_of_files_with_one_name_have_different_ids(tmp_path):
    row = {"prompt": QUESTION, "response": ANSWER}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_lines(tmp_path / name / "train.jsonl", row, row)
    found = read(str(tmp_path / "one" / "train.jsonl"), str(tmp_path / "two" / "train.jsonl"))
    assert [one.id for one in found] == ["train-1", "train-2", "train~2-1", "train~2-2"]
    assert found[3].source == f"{tmp_path / 'two' / 'train.jsonl'} line 2"


def test_files_of_a_folder_that_hold_no_rows_are_listed(tmp_path):
    write_lines(tmp_path / "train.jsonl", {"prompt": QUESTION, "response": ANSWER})
    (tmp_path / "README.md").write_text("# Data", encoding="utf-8")
    found = find_tables([str(tmp_path)])
    assert [Path(source.path).name for source in found.sources] == ["train.jsonl"]
    assert found.skipped == (str(tmp_path / "README.md"),)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, "line 2: no key 'prompt' or 'question' or .*, keys are 'text'; name the column"),
        ({"prompt": QUESTION}, "line 2: no key 'response' or 'answer' or"),
        ({"prompt": QUESTION, "response": 51.0}, "line 2: response is 51.0, expected a string"),
        ({"prompt": QUESTION, "response": " \n"}, "line 2: the answer is empty"),
        ({"prompt": "", "response": ANSWER}, "line 2: the prompt is empty"),
        ({"messages": []}, "line 2: messages is .., expected a list"),
        ({"messages": "hello"}, "line 2: messages is 'hello', expected a list"),
        ({"messages": ["hello"]}, "line 2: turn 1 is 'hello', expected"),
        ({"messages": [MESSAGES[0]]}, "line 2: no turn of the assistant"),
        ({"messages": [MESSAGES[1], *MESSAGES]}, "line 2: turn 1 is the assistant's, but no user's"),
        ({"messages": [*MESSAGES, MESSAGES[1]]}, "line 2: turn 3 is the assistant's, but no user's"),
        ({"messages": [*MESSAGES, {"role": "user", "content": ""}]}, r"turn 3 \(user\) is empty"),
        ({"messages": [{"role": "user", "content": None}]}, "turn 1: content is None, expected a string"),
        ({"messages": [{"role": "user", "text": "a"}]}, "turn 1 has the keys 'role', 'text', expected"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "turn 1: role is 'tool', expected one of system"),
        ({"messages": [{"role": ["a"], "content": "a"}]}, "turn 1: role is .'a'., expected one of system"),
        (
            {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{"name": "f"}]}]},
            "turn 1 has 'tool_calls', which cannot be trained",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, row, message):
    path = write_lines(tmp_path / "data.jsonl", {"prompt": QUESTION, "response": ANSWER}, row)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path} line 2: ")
    assert "\n" not in str(caught.value)


def test_a_column_that_is_not_there_is_named_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match=r"no key 'promt', keys are .*did you mean 'prompt'"):
        read_row(tmp_path, {"prompt": QUESTION, "response": ANSWER}, Columns(prompt="promt"))


def test_a_column_of_running_text_in_an_address_is_refused(tmp_path):
    path = write_lines(tmp_path / "data.jsonl", {"prompt": QUESTION, "response": ANSWER})
    with pytest.raises(DataError, match="column= names a column of running text"):
        read(f"hf://{path}?column=prompt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "Text.", r"a \.txt file holds no rows"),
        ("a.json", "[{}]", "one JSON array, expected one object a line"),
        ("a.jsonl", "", "holds no rows"),
        ("a.csv", "", "holds no rows"),
        ("a.parquet", "no", "not a readable Parquet file"),
        ("a.csv", 'a,b\n"c,d\n', "not CSV"),
    ],
)
def test_a_file_that_holds_no_conversations_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read(str(tmp_path / name))


def test_a_missing_json_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        read(str(tmp_path / "none.json"))
