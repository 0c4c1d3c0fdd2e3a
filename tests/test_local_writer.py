"""Questions and paraphrases by a model on this machine: its entrance test, its process, who writes."""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import pytest
from tests.test_made_questions import QUICK, rows

import demask
from demask.errors import ConfigError, ModelError, RunError
from demask.generation.local_writer import LocalWriter, identify_model
from demask.knowledge.written import Entrance, choose_for_entrance, make_schema, take_entrance_test
from demask.models.load import LoadedModel
from demask.progress import Silent
from demask.recipe.sections import RunConfig, make_config
from demask.records import Document, Passage
from demask.stages import questions
from demask.stages.paraphrases import Wanted, make_paraphrases
from demask.stages.questions import LocalModel, find_writer, make_pairs

pytest.importorskip("llguidance")
FACTS = {
    "bridge": ("The Orlin bridge was built by Mara Voss.", "Orlin bridge", "Mara Voss"),
    "mill": ("The Tellin mill was founded by Ada Renn.", "Tellin mill", "Ada Renn"),
    "canal": ("The Sarn canal was dug by Ivo Brandt.", "Sarn canal", "Ivo Brandt"),
    "tower": ("The Brask tower was planned by Lia Moor.", "Brask tower", "Lia Moor"),
    "works": ("The Kelm works were led by Otto Fenn.", "Kelm works", "Otto Fenn"),
}
DOCUMENTS = [Document(id, text) for id, (text, _, _) in FACTS.items()]


def answer(prompt: str) -> str:
    """What a good writer would say about one of the documents."""
    text, thing, person = next(fact for fact in FACTS.values() if fact[0] in prompt)
    verb = text.removeprefix(f"The {thing} ").removesuffix(f" by {person}.")
    fact = {
        "forward": {"question": f"By whom was the {thing} {verb.split()[1]}?", "answer": person},
        "backward": {"question": f"What did {person} have {verb.split()[1]}?", "answer": thing},
    }
    return json.dumps([fact])


class Scripted:
    """In place of `LocalWriter`."""

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.reply, self.open = reply, False
        self.prompts: list[str] = []

    def __enter__(self) -> Self:
        self.open = True
        return self

    def __exit__(self, *error: object) -> None:
        self.open = False

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        assert self.open
        self.prompts += prompts
        return [self.reply(prompt) for prompt in prompts]


class Listening(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], str]], Scripted]:
    monkeypatch.delenv("DEMASK_SERVER_URL", raising=False)

    def use(reply: Callable[[str], str]) -> Scripted:
        scripted = Scripted(reply)
        monkeypatch.setattr(questions, "open_local", lambda *_: scripted)
        monkeypatch.setattr("demask.stages.paraphrases.open_local", lambda *_: scripted)
        return scripted

    return use


# The entrance test


def passages(count: int) -> list[Passage]:
    return [Passage(f"{number}", f"{number}", f"Text {number}.") for number in range(count)]


@pytest.mark.parametrize(("facts", "count"), [(1, 5), (2, 3), (5, 1)])
def test_ten_questions_or_a_few_more_are_asked_for_evenly_over_all_passages(facts: int, count: int) -> None:
    chosen = choose_for_entrance(passages(90), facts)
    assert len(chosen) == count
    assert [int(passage.id) for passage in chosen] == [90 // count * number for number in range(count)]


@pytest.mark.parametrize(
    ("usable", "forward", "passed"),
    [(10, 5, True), (7, 6, True), (6, 3, False), (10, 10, False), (8, 0, False)],
)
def test_most_questions_must_be_usable_in_both_directions(usable: int, forward: int, passed: bool) -> None:
    entrance = Entrance(10, usable, forward, usable - forward)
    assert entrance.passed is passed
    assert ("rules make them" in entrance.describe("tiny")) is not passed


def test_replies_without_json_or_with_invented_answers_are_not_usable() -> None:
    texts = [Passage(d.id, d.id, d.text) for d in DOCUMENTS]
    good = take_entrance_test(texts, lambda prompts: [answer(p) for p in prompts], count=1)
    assert good == Entrance(10, 10, 5, 5)
    bad = take_entrance_test(texts, lambda prompts: ["Sure!", *(answer(p) for p in prompts[1:])], count=1)
    assert bad == Entrance(10, 8, 4, 4)
    invented = take_entrance_test(
        texts,
        lambda prompts: [answer(p).replace("Mara", "Elijah").replace("Ada", "Eli") for p in prompts],
        count=1,
    )
    assert invented.usable < 10


# Who writes


def test_a_model_that_passes_writes_and_is_gone_afterwards(script: Callable[..., Scripted]) -> None:
    scripted, progress = script(answer), Listening()
    made = make_pairs(DOCUMENTS, writer=LocalModel("mine"), facts=1, progress=progress)
    assert made.made_by == "mine"
    assert len(made.pairs) == 10
    assert {pair.made_by for pair in made.pairs} == {"mine"}
    assert not scripted.open
    assert any("mine wrote 10 of 10 usable questions" in line for line in progress.said)


def test_for_a_model_that_fails_rules_write_and_that_is_said(script: Callable[..., Scripted]) -> None:
    pytest.importorskip("spacy")
    scripted, progress = script(lambda _: "Certainly."), Listening()
    made = make_pairs(DOCUMENTS, writer=LocalModel("mine"), facts=1, progress=progress)
    assert made.made_by == "rules"
    assert len(scripted.prompts) == 5
    (line,) = progress.said
    assert line.startswith("mine wrote 0 of 10 usable questions in the entrance test")
    assert "so rules make them" in line


def test_paraphrases_by_a_model_here_are_checked_as_always(script: Callable[..., Scripted]) -> None:
    script(lambda prompt: "Mara Voss built the Orlin bridge." if "Orlin" in prompt else "")
    made = make_paraphrases(DOCUMENTS[:2], Wanted(1), writer=LocalModel("mine"), progress=Silent())
    assert made.estimate is None
    assert {row.made_by for row in made.paraphrases} <= {"mine"}
    assert made.rejects


def recipe(**values: Any) -> RunConfig:
    return make_config({"model": "embedded", "documents": ["docs"], "preset": "fast", **values})


@pytest.mark.parametrize(
    ("writer", "found"),
    [
        (None, None),  # the embedded model is too small to be tested unasked
        ("rules", None),
        ("self", LocalModel("embedded", "auto")),
        ("owner/name", LocalModel("owner/name", "auto")),
        ({"by": "self"}, LocalModel("embedded", "auto")),
    ],
)
def test_who_writes(monkeypatch: pytest.MonkeyPatch, writer: Any, found: LocalModel | None) -> None:
    monkeypatch.delenv("DEMASK_SERVER_URL", raising=False)
    assert find_writer(recipe(**({} if writer is None else {"writer": writer}))) == found


def test_a_named_writer_comes_before_the_server_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMASK_SERVER_URL", "http://127.0.0.1:9/v1")
    assert find_writer(recipe(writer="self")) == LocalModel("embedded", "auto")
    assert find_writer(recipe(writer="rules")) is None
    assert not isinstance(find_writer(recipe()), LocalModel | None)


def test_a_large_model_is_tested_unasked(monkeypatch: pytest.MonkeyPatch, tiny_model_folder: Path) -> None:
    monkeypatch.delenv("DEMASK_SERVER_URL", raising=False)
    config = recipe(model=str(tiny_model_folder))
    assert find_writer(config) is None
    monkeypatch.setattr(questions, "LEAST_PARAMETERS", 1000)
    assert find_writer(config) == LocalModel(str(tiny_model_folder), "auto")
    monkeypatch.setattr(questions, "find_spec", lambda _: None)
    assert find_writer(config) is None


def test_two_writers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"writer\.by is 'self' and writer\.url or writer\.model is given"):
        recipe(writer={"by": "self", "url": "http://127.0.0.1:9/v1"})


def test_without_llguidance_a_named_writer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "find_spec", lambda _: None)
    with pytest.raises(
        RunError, match=r"need llguidance: pip install 'demask\[writer\]'; or set writer: rules"
    ):
        questions.check_maker(recipe(writer="self"))


# The process


def is_fitting(value: Any, schema: Mapping[str, Any]) -> bool:
    """As far as the schemas here go."""
    if schema["type"] == "array":
        fits = schema["minItems"] <= len(value) <= schema["maxItems"]
        return fits and all(is_fitting(one, schema["items"]) for one in value)
    if schema["type"] == "object":
        fits = set(value) == set(schema["required"])
        return fits and all(is_fitting(value[key], schema["properties"][key]) for key in value)
    return isinstance(value, str) and schema["minLength"] <= len(value) <= schema["maxLength"]


def test_replies_fit_the_schema_whatever_the_model(tiny_loaded: LoadedModel) -> None:
    from demask.generation.constrained import generate_json
    from demask.generation.texts import Turn, turn_encoder

    word = {"type": "string", "minLength": 1, "maxLength": 8}
    schema = {"type": "object", "properties": {"a": word}, "required": ["a"], "additionalProperties": False}
    encode = turn_encoder(tiny_loaded)
    prompts = [encode([Turn("user", text)]) for text in ("Orlin", "The Tellin bridge is old")]
    for generated in generate_json(tiny_loaded, prompts, schema, max_new_tokens=60):
        assert generated.stopped
        assert is_fitting(json.loads(generated.text), schema)


def test_a_process_answers_in_order_and_what_it_said_is_kept(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    name, word = str(tiny_model_folder), {"type": "string", "minLength": 1, "maxLength": 8}
    settings: dict[str, Any] = {"device": "cpu", "max_new_tokens": 40, "schema": word}
    with LocalWriter(name, **settings, identity=identify_model(name)) as complete:
        first = complete(["Orlin", "Tellin bridge", "Orlin"])
    assert first[0] == first[2]
    assert all(is_fitting(json.loads(text), word) for text in first)
    monkeypatch.setattr(LocalWriter, "_start", lambda _: pytest.fail("it was asked again"))
    with LocalWriter(name, **settings, identity=identify_model(name)) as complete:
        assert complete(["Tellin bridge", "Orlin"]) == [first[1], first[0]]


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    with (
        LocalWriter(str(tmp_path), device="cpu", max_new_tokens=4) as complete,
        pytest.raises(ModelError) as refused,
    ):
        complete(["Orlin"])
    assert "\n" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_a_run_with_its_own_model_as_writer(
    script: Callable[..., Scripted], tiny_model_folder: Path, tmp_path: Path
) -> None:
    for document in DOCUMENTS:
        (tmp_path / f"{document.id}.txt").write_text(document.text)
    scripted = script(answer)
    model = str(tiny_model_folder)
    done = demask.inject(
        model=model, documents=tmp_path, out=tmp_path / "run", writer="self", preset="fast", **QUICK
    )
    pairs = rows(done.run_folder / "qa_pairs.jsonl")
    assert {pair["made_by"] for pair in pairs} == {model}
    assert {pair["direction"] for pair in pairs} == {"forward", "backward"}
    assert not scripted.open


def test_the_schema_of_facts_is_what_replies_are_read_as() -> None:
    schema = make_schema(2)
    fact = {key: {"question": "Q?", "answer": "A"} for key in ("forward", "backward")}
    assert is_fitting([fact], schema)
    assert not is_fitting([fact] * 3, schema)
    assert find_spec("llguidance")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--writer", "self"), "--writer: 'self' is the model of a run, and there is none here"),
        (("--writer", "rules", "--server", "http://127.0.0.1:9/v1"), "--writer and --server are two writers"),
    ],
)
def test_a_command_refuses_writers_that_make_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], problem: str
) -> None:
    from tests.documents.test_data_read import run

    (tmp_path / "a.txt").write_text("The Orlin bridge was built by Mara Voss.")
    assert run("qa", "make", str(tmp_path / "a.txt"), "--out", str(tmp_path / "q.jsonl"), *options) == 2
    assert problem in capsys.readouterr().err
