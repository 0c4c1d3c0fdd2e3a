"""What stands in the prompt before a question that is asked with its document."""

from typing import TYPE_CHECKING

import pytest

from demask.evaluation.qa import choose_contexts, make_prompts
from demask.records import Document, Passage, QAPair

if TYPE_CHECKING:
    from demask.models.load import LoadedModel

pytestmark = pytest.mark.smoke

FOUNDED = "Mara Voss founded the Orlin works in 1931."
SOLD = "In 1958 the son of Mara Voss sold the Orlin works."
FILLER = "The lazy dog sleeps and the quick brown fox jumps over it. "
PAIR = QAPair("q", "d", "Who founded the Orlin works in 1931?", ("Mara Voss",), "backward")


def choose(
    loaded: "LoadedModel", text: str, passages: list[str], *, pair: QAPair = PAIR, new: int = 8
) -> dict[str, str]:
    parts = [Passage(f"d#{n}", "d", part) for n, part in enumerate(passages)]
    other = Passage("e", "e", "Mara Voss founded the Orlin works in 1931, says another document.")
    return choose_contexts(loaded, [pair], {"d": Document("d", text)}, [other, *parts], max_new_tokens=new)


def test_a_document_that_fits_stands_there_as_a_whole(tiny_loaded: "LoadedModel") -> None:
    assert choose(tiny_loaded, f"{SOLD} {FOUNDED}", [SOLD, FOUNDED]) == {"q": f"{SOLD} {FOUNDED}"}


@pytest.mark.parametrize("passages", [[SOLD, FOUNDED, FILLER], [FOUNDED, SOLD]])
def test_of_a_long_document_it_is_the_passage_with_the_answer_by_the_cues(
    tiny_loaded: "LoadedModel", passages: list[str]
) -> None:
    assert choose(tiny_loaded, FILLER * 40, passages) == {"q": FOUNDED}


def test_a_passage_with_the_answer_in_another_form_does_not_count(tiny_loaded: "LoadedModel") -> None:
    inexact = "The Vossen of Mara founded the Orlin works in 1931."
    assert choose(tiny_loaded, FILLER * 40, [inexact]) == {}
    exact = "Mara Voss founded something."
    assert choose(tiny_loaded, FILLER * 40, [inexact, exact]) == {"q": exact}


def test_the_heading_of_the_passage_comes_along(tiny_loaded: "LoadedModel") -> None:
    passage = Passage("d", "d", FOUNDED, heading="Works (1931)\n")
    documents = {"d": Document("d", FILLER * 40)}
    contexts = choose_contexts(tiny_loaded, [PAIR], documents, [passage], max_new_tokens=8)
    assert contexts == {"q": f"Works (1931)\n{FOUNDED}"}


def test_a_pair_whose_answer_stands_in_no_passage_is_left_out(tiny_loaded: "LoadedModel") -> None:
    assert choose(tiny_loaded, FILLER * 40, [FILLER]) == {}


def test_a_pair_whose_passage_leaves_no_room_for_the_answer_is_left_out(tiny_loaded: "LoadedModel") -> None:
    assert choose(tiny_loaded, FILLER * 40, [FOUNDED], new=tiny_loaded.context - 10) == {}


def test_the_question_comes_after_its_text(tiny_loaded: "LoadedModel") -> None:
    (bare,) = make_prompts(tiny_loaded, [PAIR])
    (informed,) = make_prompts(tiny_loaded, [PAIR], {"q": FOUNDED})
    shown = tiny_loaded.tokenizer.decode([*informed])
    assert shown.index(FOUNDED) < shown.index(PAIR.question)
    assert FOUNDED not in tiny_loaded.tokenizer.decode([*bare])
