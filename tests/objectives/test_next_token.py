"""Every field of a next-token example, by hand, in both forms."""

import pytest

from demask.objectives.next_token import make_next_token_example
from demask.objectives.prompts import ChatFormat
from demask.records import IGNORE_INDEX, Example

pytestmark = pytest.mark.smoke

NONE = IGNORE_INDEX
CHAT = ChatFormat(user=(1, 2), assistant=(3,), end=(5,), bos=(9,))
WITHOUT_BOS = ChatFormat(user=(1, 2), assistant=(3,), end=(5,), bos=())
IDS = (100, 101)


def test_chat_form_scores_the_text_and_the_end_after_the_question():
    assert make_next_token_example(IDS, id="d1", chat=CHAT, question=(50,)) == Example(
        id="d1",
        token_ids=(1, 2, 50, 3, 100, 101, 5),
        labels=(NONE, NONE, NONE, NONE, 100, 101, 5),
        masked=(False, False, False, False, True, True, True),
    )


def test_raw_form_scores_the_text_and_the_end_after_bos():
    assert make_next_token_example(IDS, id="d1", chat=CHAT, question=None) == Example(
        id="d1",
        token_ids=(9, 100, 101, 5),
        labels=(NONE, 100, 101, 5),
        masked=(False, True, True, True),
    )


def test_raw_form_without_bos_cannot_score_its_first_token():
    assert make_next_token_example(IDS, id="d1", chat=WITHOUT_BOS, question=None) == Example(
        id="d1",
        token_ids=(100, 101, 5),
        labels=(NONE, 101, 5),
        masked=(False, True, True),
    )


def test_an_empty_question_is_still_the_chat_form():
    example = make_next_token_example(IDS, id="d1", chat=CHAT, question=())
    assert example.token_ids == (1, 2, 3, 100, 101, 5)
