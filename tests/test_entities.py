"""What a document is about travels from its file to the masks of its passages and paraphrases."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demask.documents.load import DocumentReader
from demask.documents.passages import split_document
from demask.errors import DataError
from demask.models.context import load_context
from demask.objectives.prompts import encode
from demask.progress import Silent
from demask.recipe.sections import RunConfig, make_config
from demask.records import IGNORE_INDEX, Document, Paraphrase, Passage
from demask.stages.passages import add_paraphrases, longest_passage, split_documents
from demask.tasks.planning import preview_examples

ROW = {
    "id": "voss",
    "text": "Mara Voss founded the Orlin works in 1931. Voss sold them.",
    "entity": "Mara Voss",
}


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """A recipe of one document; keywords go to its objective."""

    def make(**objective: Any) -> RunConfig:
        path = tmp_path / "facts.jsonl"
        path.write_text(json.dumps(ROW))
        values = {"model": str(tiny_model_folder), "documents": str(path), "qa": "no"}
        return make_config({**values, "objective": {"name": "demasking", **objective}})

    return make


def split(config: RunConfig, *documents: Document) -> list[Passage]:
    context = load_context(config.model, config.objective)
    return list(split_documents(config, documents, context))


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_every_kind_of_table_may_say_what_a_document_is_about(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"facts.{suffix}"
    if suffix == "jsonl":
        path.write_text(json.dumps(ROW))
    elif suffix == "csv":
        path.write_text(f"id,text,entity\n{','.join(ROW.values())}\n")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist([ROW]), path)
    (document,) = DocumentReader((str(path),))
    (passage,) = split_document(document, count_tokens=len, max_tokens=1000)
    assert passage.entity == "Mara Voss"


def test_every_passage_of_a_document_is_about_the_same() -> None:
    document = Document("d", "One two. Three four. Five six.", metadata={"entity": " Orlin "})
    passages = split_document(document, count_tokens=lambda text: len(text.split()), max_tokens=2)
    assert [passage.entity for passage in passages] == ["Orlin"] * 3


@pytest.mark.parametrize("entity", [None, "", " ", 3, ["Mara Voss"]])
def test_a_document_that_does_not_say_it_is_named_where_it_must_be_known(
    recipe: Callable[..., RunConfig], entity: object
) -> None:
    document = Document("d", "One two.", source="facts.jsonl line 2", metadata={"entity": entity})
    assert [passage.entity for passage in split(recipe(), document)] == [""]
    for choice in ("never", "always"):
        with pytest.raises(DataError) as raised:
            split(recipe(entity=choice), document)
        assert str(raised.value) == (
            f"facts.jsonl line 2: entity is {entity!r}, expected the name of what the document is about, "
            f"since objective.entity is '{choice}'; add it as a key of a .jsonl, .csv or .parquet file"
        )


def test_a_run_that_keeps_going_leaves_it_out_and_says_so(recipe: Callable[..., RunConfig]) -> None:
    config = recipe(entity="always").model_copy(update={"keep_going": True})
    context = load_context(config.model, config.objective)
    documents = [Document("a", "One.", source="a.txt"), Document("b", "Two.", metadata={"entity": "Orlin"})]
    told: list[str] = []
    progress: Any = Silent()
    progress.say = told.append
    passages = list(split_documents(config, documents, context, progress))
    assert [passage.id for passage in passages] == ["b"]
    assert [line.partition(",")[0] for line in told] == ["left out: a.txt: entity is None"]


def test_other_objectives_do_not_ask_for_it(recipe: Callable[..., RunConfig]) -> None:
    config = recipe().model_copy(
        update={
            "objective": make_config({"model": "m", "documents": "d", "objective": "next-token"}).objective
        }
    )
    assert len(split(config, Document("d", "One two."))) == 1


def test_a_paraphrase_is_about_what_its_document_is_about(recipe: Callable[..., RunConfig]) -> None:
    config = recipe(entity="always")
    context = load_context(config.model, config.objective)
    passages = [Passage("a#1", "a", "One.", entity="Orlin"), Passage("b", "b", "Two.", entity="Voss")]
    made = [Paraphrase(f"p{n}", document, "Three.", "same-order") for n, document in enumerate("ba")]
    texts = add_paraphrases(config, passages, made, context)
    assert [text.entity for text in texts] == ["Orlin", "Voss", "Voss", "Orlin"]


@pytest.mark.parametrize(("entity", "hidden"), [("never", False), ("always", True)])
def test_a_run_masks_or_shows_it(recipe: Callable[..., RunConfig], entity: str, hidden: bool) -> None:
    previews = preview_examples(recipe(entity=entity, unit="word"), count=10)
    for preview in previews:
        shown = "".join(piece.text for piece in preview.pieces if piece.role == "prompt")
        assert ("Voss" not in shown) == hidden
        assert hidden or shown.count("Voss") == 2


# What else the objective says of the prompt


def test_the_longest_instruction_leaves_room_for_itself(recipe: Callable[..., RunConfig]) -> None:
    context = load_context(recipe().model, recipe().objective)
    short, long = "Go on.", "\nGo on" + " and on" * 9
    rooms = [
        longest_passage(recipe(instruction=instruction), context)
        for instruction in (long, [short, long], [long, short], short)
    ]
    more = len(encode(context.tokenizer, long)) - len(encode(context.tokenizer, short))
    assert rooms[0] == rooms[1] == rooms[2]
    assert (
        abs(rooms[3] - rooms[0] - more / 2) <= 1.5
    )  # each passage stands twice; tokens may join at the seam


def test_a_run_with_random_tokens_has_no_mask_token_and_can_be_previewed(
    recipe: Callable[..., RunConfig],
) -> None:
    config = recipe(mask_token="<random>", mask_ratio=1.0)
    context = load_context(config.model, config.objective)
    assert context.mask_id is None
    (preview,) = preview_examples(config, count=1)
    assert preview.scored == len(encode(context.tokenizer, ROW["text"])) + 1 != IGNORE_INDEX
    written = "".join(piece.text for piece in preview.pieces if piece.role == "masked")
    assert written == ROW["text"]
    prompt = "".join(piece.text for piece in preview.pieces if piece.role == "prompt")
    assert "founded the Orlin works" not in prompt
