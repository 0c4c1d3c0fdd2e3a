"""Every part of a row is trained, or named, or refused; what is marked as not to be learned is not."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from demask.data.conversations import (
    Columns,
    Turn,
    UnusedKeys,
    describe_unused,
    make_conversation,
    read_conversations,
)
from demask.data.samples import Limit, find_answers, make_samples, template_cutter
from demask.data.sources import find_tables
from demask.data.tokenising import ConversationData, prepare_samples, sample_reader
from demask.documents.tables import Row
from demask.errors import DataError
from demask.objectives.prompts import load_chat_format
from demask.progress import Silent

ASK, SAY = "Who founded Orlin?", "Mara Voss."
MESSAGES = [{"role": "user", "content": ASK}, {"role": "assistant", "content": SAY}]
SHAREGPT = [{"from": "human", "value": ASK}, {"from": "gpt", "value": SAY}]
PAIR = [("user", ASK), ("assistant", SAY)]
EARLIER = [("user", "Hello?"), ("assistant", "Hello.")]
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
TAKES_TOOLS = "{% if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}"


def make(row, unused=None, **columns):
    return make_conversation(Row("f line 2", "f-2", dict(row)), Columns(**columns), unused)


def turns(row, **columns):
    return [(turn.role, turn.text) for turn in make(row, **columns).turns]


def refusal(row, **columns):
    with pytest.raises(DataError) as caught:
        make(row, **columns)
    message = str(caught.value)
    assert message.startswith("f line 2: ")
    assert "\n" not in message
    return message.removeprefix("f line 2: ")


def unused(row, **columns):
    found = UnusedKeys()
    make(row, found, **columns)
    return found.characters


# Input, context, history, system


@pytest.mark.parametrize("prompt", ["prompt", "question", "instruction", "problem", "query"])
def test_input_follows_a_prompt_of_any_name(prompt):
    row = {prompt: "Translate:", "input": "door handle", "output": SAY}
    assert turns(row) == [("user", "Translate:\n\ndoor handle"), PAIR[1]]


@pytest.mark.parametrize(
    "row", [{"input": ASK, "output": SAY}, {"instruction": "", "input": ASK, "output": SAY}]
)
def test_input_alone_is_the_prompt(row):
    assert turns(row) == PAIR


@pytest.mark.parametrize("context", ["Voss founded it.", ["Voss", "founded it."]])
def test_context_stands_before_the_question(context):
    row = {"question": ASK, "context": context, "input": "In short.", "answer": SAY}
    said = "\n\n".join([context] if isinstance(context, str) else context)
    assert turns(row) == [("user", f"{said}\n\n{ASK}\n\nIn short."), PAIR[1]]


@pytest.mark.parametrize(
    "history",
    [
        [["Hello?", "Hello."]],
        '[["Hello?", "Hello."]]',
        [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}],
        [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hello."}],
    ],
)
def test_history_becomes_turns(history):
    row = {"instruction": ASK, "output": SAY, "history": history, "system": "Be brief."}
    assert turns(row) == [("system", "Be brief."), *EARLIER, *PAIR]


@pytest.mark.parametrize("system", ["system", "system_prompt", "system_message"])
@pytest.mark.parametrize(
    "row", [{"messages": MESSAGES}, {"conversations": SHAREGPT}, {"prompt": ASK, "answer": SAY}]
)
def test_the_system_of_a_row_comes_first(row, system):
    assert turns({**row, system: "Be brief."}) == [("system", "Be brief."), *PAIR]


def test_the_same_system_twice_is_one_turn():
    row = {"messages": [{"role": "system", "content": "Be brief."}, *MESSAGES], "system": "Be brief."}
    assert turns(row) == [("system", "Be brief."), *PAIR]


def test_a_developer_is_the_system():
    assert turns({"messages": [{"role": "developer", "content": "x"}, *MESSAGES]}) == [("system", "x"), *PAIR]


@pytest.mark.parametrize("empty", [None, "", " ", []])
@pytest.mark.parametrize("key", ["context", "history", "system", "tools"])
def test_empty_parts_are_none(key, empty):
    assert turns({"prompt": ASK, "output": SAY, key: empty}) == PAIR


# Messages in other forms


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": MESSAGES[:1], "completion": MESSAGES[1:]},
        {"prompt": MESSAGES[:1], "response": SAY},
        {"prompt": ASK, "completion": MESSAGES[1:]},
        {"prompt": json.dumps(MESSAGES[:1]), "completion": json.dumps(MESSAGES[1:])},
        {"conversation": MESSAGES},
        {"messages": json.dumps(MESSAGES)},
        {"prompt": None, "question": ASK, "response": "", "answer": SAY},
    ],
)
def test_prompts_and_responses_may_be_messages(row):
    assert turns(row) == PAIR


@pytest.mark.parametrize("chosen", [SAY, MESSAGES[1:], MESSAGES])
def test_what_was_chosen_is_learned_when_it_is_named(chosen):
    row = {"prompt": ASK, "chosen": chosen, "rejected": "Nobody knows."}
    assert turns(row, response="chosen") == PAIR
    assert unused(row, response="chosen") == {"rejected": 13}


def test_the_text_of_parts_is_joined():
    parts = [{"type": "text", "text": "Who founded"}, {"type": "text", "text": "Orlin?"}]
    assert turns({"messages": [{"role": "user", "content": parts}, MESSAGES[1]]}) == [
        ("user", "Who founded\nOrlin?"),
        PAIR[1],
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"context": {"a": ["b"]}, "question": ASK, "answer": SAY},
            "context is {'a': ['b']}, expected a string",
        ),
        ({"prompt": ASK, "input": 5, "answer": SAY}, "input is 5, expected a string"),
        ({"prompt": ASK, "answer": SAY, "history": [["a"]]}, "history is [['a']], expected pairs"),
        ({"prompt": ASK, "answer": SAY, "history": "before"}, "history is 'before', expected pairs"),
        (
            {"prompt": ASK, "answer": SAY, "tools": "look_up"},
            "tools is 'look_up', expected a list of objects",
        ),
        (
            {"prompt": ASK, "answer": SAY, "functions": TOOLS},
            "has 'functions', which cannot be trained; write",
        ),
        ({"prompt": ASK, "answer": SAY, "images": ["a.png"]}, "has 'images', which cannot be trained; leave"),
        (
            {"prompt": ASK, "chosen": SAY, "rejected": "No."},
            "'chosen' and 'rejected' are preferences, expected",
        ),
        ({"prompt": " ", "context": "c", "answer": SAY}, "the prompt is empty"),
        (
            {"messages": [{"role": "system", "content": "a"}, *MESSAGES], "system": "b"},
            "system and the first turn are both the system's, and differ; keep one of them",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, MESSAGES[1]]},
            "turn 1: content has part 1 of kind 'image_url', expected text",
        ),
        (
            {"messages": [MESSAGES[0], {**MESSAGES[1], "reasoning": "Hm."}]},
            "turn 2 has 'reasoning', which cannot be trained",
        ),
        (
            {"conversations": [SHAREGPT[0], {"from": "function_call", "value": "{}"}]},
            "turn 2: from is 'function_call', expected one of system",
        ),
    ],
)
def test_a_part_that_cannot_be_trained_is_refused(row, message):
    assert refusal(row).startswith(message)


@pytest.mark.parametrize("key", ["functions", "images", "tools", "context", "weight"])
def test_a_part_can_be_left_out_on_purpose(key):
    row = {"prompt": ASK, "answer": SAY, key: {"a": "b"} if key != "weight" else 0}
    refusal(row)
    assert turns(row, ignore=(key,)) == PAIR


# Keys that are not trained


def test_keys_with_text_that_is_not_trained_are_counted():
    row = {
        "id": "a",
        "prompt_id": "b",
        "prompt": ASK,
        "answer": SAY,
        "question": ASK,
        "short": "Mara",
        "score": 3,
        "notes": {"why": "known", "by": ["Ann"]},
        "solution": "Another.",
    }
    assert unused(row) == {"notes": 8, "solution": 8}
    assert unused(row, ignore=("notes",)) == {"solution": 8}


def test_keys_of_messages_are_counted_too():
    row = {
        "messages": [{**MESSAGES[0], "name": "Ann"}, {**MESSAGES[1], "note": None}],
        "context": "Orlin is old.",
    }
    assert unused(row) == {"messages.name": 3, "context": 13}
    assert unused(row, ignore=("messages.name",)) == {"context": 13}


def test_a_weight_between_none_and_all_of_a_row_is_named():
    assert unused({"prompt": ASK, "answer": SAY, "weight": 0.5}) == {"weight": 3}


def test_unused_keys_are_named_largest_first():
    assert describe_unused({"a": 5, "b": 12_000, "c": 5}) == (
        "not trained: 'b' (12,000 characters), 'a' (5 characters), 'c' (5 characters); name what is to be "
        "trained in columns, and the others in columns.ignore"
    )
    assert "'k7' (93 characters) and 12 more keys;" in describe_unused({f"k{n}": 100 - n for n in range(20)})
    assert describe_unused({}) == ""


class Told(Silent):
    """Keeps what was said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def write_rows(folder: Path, *rows: object) -> str:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


ANY = Limit(lambda prompt, answer: True, "any")


def test_unused_keys_are_named_once_and_again_when_samples_are_found(tmp_path, tiny_tokenizer, tiny_chat):
    data = ConversationData((write_rows(tmp_path, *[{"prompt": ASK, "answer": SAY, "note": "Old."}] * 3),))
    said = []
    for _ in range(2):
        told = Told()
        prepare_samples(
            data, tokenizer=tiny_tokenizer, chat=tiny_chat, limit=ANY, cache=tmp_path / "cache", progress=told
        )
        said.append(told.lines)
    assert said[0] == said[1] == [describe_unused({"note": 12})]


def test_a_stream_names_each_unused_key_with_its_first_row(tmp_path, tiny_tokenizer, tiny_chat):
    row = {"prompt": ASK, "answer": SAY}
    path = write_rows(tmp_path, row, {**row, "note": "Old."}, {**row, "note": "New."}, {**row, "more": "x"})
    told = Told()
    read = sample_reader(
        ConversationData((path,)), tokenizer=tiny_tokenizer, chat=tiny_chat, limit=ANY, progress=told
    )
    for _ in range(2):
        assert len(list(read(0))) == 4
    assert [line.partition(" characters")[0] for line in told.lines] == [
        f"{path} line 2: not trained: 'note' (4",
        f"{path} line 4: not trained: 'more' (1",
    ]


# What is marked as not to be learned


LATER = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "In 1931."}]


@pytest.mark.parametrize(
    "mark",
    [
        {"weight": 0},
        {"weight": 0.0},
        {"train": False},
        {"training": False},
        {"loss": False},
        {"loss_mask": 0},
    ],
)
def test_a_marked_answer_is_no_sample(mark):
    first = make({"messages": [MESSAGES[0], {**MESSAGES[1], **mark}, *LATER]})
    assert (find_answers(first, "last"), find_answers(first, "all")) == ([3], [3])
    second = make({"messages": [*MESSAGES, LATER[0], {**LATER[1], **mark}]})
    assert (find_answers(second, "last"), find_answers(second, "all")) == ([1], [1])


@pytest.mark.parametrize(
    "mark", [{"weight": 1}, {"weight": 1.0}, {"train": True}, {"weight": None}, {"loss": "true"}]
)
def test_an_answer_that_is_to_be_learned_is_a_sample(mark):
    conversation = make({"messages": [MESSAGES[0], {**MESSAGES[1], **mark}]})
    assert conversation.turns == (Turn("user", ASK), Turn("assistant", SAY))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"messages": [MESSAGES[0], {**MESSAGES[1], "weight": 0}]},
            "no turn of the assistant is to be learned, as all are marked with weight 0 or train false",
        ),
        (
            {"conversations": [SHAREGPT[0], {**SHAREGPT[1], "train": False}]},
            "no turn of the assistant is to be",
        ),
        (
            {"messages": [MESSAGES[0], {**MESSAGES[1], "weight": 0.5}]},
            "turn 2: weight is 0.5, expected 0 or 1",
        ),
        (
            {"messages": [MESSAGES[0], {**MESSAGES[1], "loss_mask": [0, 1]}]},
            "turn 2: loss_mask is [0, 1], expected",
        ),
        (
            {"messages": [MESSAGES[0], {**MESSAGES[1], "train_detail": [{"begin_offset": 0}]}]},
            "turn 2 has 'train_detail', but a turn is learned as a whole or not",
        ),
        ({"prompt": ASK, "response": SAY, "weight": 0}, "weight is 0, so its answer is not to be learned"),
        ({"prompt": ASK, "response": SAY, "train": False}, "train is False, so its answer is not to be"),
        ({"messages": MESSAGES, "train": "false"}, "train is 'false', so its answer is not to be learned"),
        ({"prompt": ASK, "completion": SAY, "label": False}, "label is False, so its answer is not to be"),
        ({"messages": MESSAGES, "loss_mask": [0, 1]}, "loss_mask is [0, 1], expected 0 or 1; set it in each"),
    ],
)
def test_a_row_of_which_nothing_is_to_be_learned_is_refused(row, message):
    assert refusal(row).startswith(message)


@pytest.mark.parametrize("more", [{"label": True}, {"label": 0}, {"weight": 1}, {"train": 1}, {"loss": 2.3}])
def test_other_marks_of_a_row_change_nothing(more):
    assert turns({"prompt": ASK, "response": SAY, **more}) == PAIR


def test_a_marked_answer_still_stands_in_the_prompts_of_later_ones(tiny_tokenizer):
    conversation = make({"messages": [MESSAGES[0], {**MESSAGES[1], "weight": 0}, *LATER]})
    cut = template_cutter(tiny_tokenizer, load_chat_format(tiny_tokenizer))
    [placed] = make_samples([conversation], turns="all", tokenizer=tiny_tokenizer, cut=cut)
    assert SAY in tiny_tokenizer.decode(placed.sample.prompt)
    assert tiny_tokenizer.decode(placed.sample.answer) == "In 1931."


def test_marks_are_read_from_tables_of_other_kinds(tmp_path):
    rows = [
        {**message, "weight": weight}
        for message, weight in zip([*MESSAGES, *LATER], [None, 0, None, 1], strict=True)
    ]
    parquet.write_table(pa.Table.from_pylist([{"messages": rows}]), tmp_path / "a.parquet")
    [conversation] = read_conversations(find_tables([str(tmp_path / "a.parquet")]).sources, Columns())
    assert [turn.learn for turn in conversation.turns] == [True, False, True, True]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "response", "weight"], [ASK, SAY, "0"]])
    with pytest.raises(DataError, match=r"a\.csv line 2: weight is '0', so its answer"):
        list(read_conversations(find_tables([str(tmp_path / "a.csv")]).sources, Columns()))


# Tools


def sample_of(tokenizer, row):
    cut = template_cutter(tokenizer, load_chat_format(tokenizer))
    [placed] = make_samples([make(row)], turns="last", tokenizer=tokenizer, cut=cut)
    return placed.sample


@pytest.mark.parametrize("given", [TOOLS, json.dumps(TOOLS), [{**TOOLS[0], "strict": None}]])
def test_tools_go_to_the_chat_template(tiny_tokenizer, given):
    tiny_tokenizer.chat_template = TAKES_TOOLS + tiny_tokenizer.chat_template
    sample = sample_of(tiny_tokenizer, {"messages": MESSAGES, "tools": given})
    prompt = tiny_tokenizer.apply_chat_template(
        MESSAGES[:1], tools=TOOLS, tokenize=False, add_generation_prompt=True
    )
    assert tiny_tokenizer.decode([*sample.prompt, *load_chat_format(tiny_tokenizer).assistant]) == prompt


def test_rows_with_and_without_tools_are_cut_apart(tiny_tokenizer):
    tiny_tokenizer.chat_template = TAKES_TOOLS + tiny_tokenizer.chat_template
    cut = template_cutter(tiny_tokenizer, load_chat_format(tiny_tokenizer))
    rows = [
        {"messages": MESSAGES},
        {"messages": MESSAGES, "tools": TOOLS},
        {"messages": MESSAGES, "tools": "[]"},
    ]
    made = make_samples(map(make, rows), turns="last", tokenizer=tiny_tokenizer, cut=cut)
    first, second, third = (placed.sample.prompt for placed in made)
    assert first == third
    assert len(second) > len(first)


def test_tools_are_refused_where_the_template_does_not_write_them(tiny_tokenizer):
    with pytest.raises(DataError, match=r"^f line 2: the chat template writes no tools; leave them out with"):
        sample_of(tiny_tokenizer, {"messages": MESSAGES, "tools": TOOLS})
