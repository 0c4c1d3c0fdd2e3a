# ruff: noqa: RUF001 (texts in many scripts)
"""Passages fit, are few and even, and together hold every word of their document."""

import random
import re
from collections.abc import Callable
from itertools import count, pairwise

import pytest

from demask.documents.coverage import count_covered
from demask.documents.parsed import count_characters
from demask.documents.passages import iter_passages, split_document
from demask.documents.sentences import find_sentences
from demask.errors import DataError
from demask.records import Document, Passage

pytestmark = pytest.mark.smoke


def count_words(text: str) -> int:
    return len(text.split())


def count_pieces(text: str) -> int:
    """Not additive, like real tokenizers: two tokens of start and end, and one for `. A` together."""
    return 2 + len(re.findall(r"\w{1,3}|[^\w\s]\s\w|[^\w\s]", text))


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in find_sentences(text)]


def split_words(text: str, max_tokens: int) -> list[str]:
    document = Document("d", text)
    return [p.text for p in split_document(document, count_tokens=count_words, max_tokens=max_tokens)]


def word_counts(text: str, max_tokens: int) -> list[int]:
    return [count_words(passage) for passage in split_words(text, max_tokens)]


def letters(text: str) -> str:
    return "".join(text.split())


# Sentences: `¦` stands where one ends and the next begins.


@pytest.mark.parametrize(
    "marked",
    [
        "It rains. ¦Orlin is wet! ¦Is it? ¦Yes… ¦Well... ¦So.",
        "It grew by 3.5 percent. ¦In 1990. ¦5 left.",
        "Dr. Voss met Mr. J. R. R. Tolkien and Prof. So in St. Ives. ¦They spoke.",
        "He saw the U.S. Army. ¦It left the U.S. ¦The end.",
        "Use fruit, e.g. Apples, i.e. Golden ones, pears etc. ¦They keep.",
        "See No. 5 and Fig. 3 on p. 12 of vol. 2. ¦She said no. ¦Five left.",
        "At 5 p.m. Monday it closed. ¦At 6 p.m. ¦The guards left.",
        "Voss Inc. Limited it to Jan. 5. ¦Then Jan. ¦The rest.",
        'He said "Go." ¦She left. ¦"Why?" he asked. ¦(They knew.) ¦“So!” ¦‘No.’ ¦End.',
        "Il dit « Va. » ¦Elle part. ¦„Geh.“ ¦»Nein.« ¦Gut.",
        "It was founded in 1990.[1][2] ¦The rest is **known.** ¦Good.",
        "Er kam. ¦Überall war es still. ¦Да. ¦Это А. С. Пушкин.",
        "東京は首都です。¦人口は多い！¦「行こう。」¦はい。",
        "A title without stop\n\n¦Then text etc.\n\n¦and more",
        "# A heading. Of two\n¦Then text\n¦## Next\n¦- item one\n¦- item two\n¦1. First Thing\n¦2. Second",
        "Wrapped at\neighty columns. ¦Next\nsentence.",
        "| a. | b |\n¦| 1 | 2 |\n\n¦After.",
        "یہ ایک ہے۔ ¦هل هذا؟ ¦यह है। ¦वह है।",
    ],
)
def test_sentences_end_where_a_reader_ends_them(marked: str) -> None:
    assert sentences(marked.replace("¦", "")) == [sentence.strip() for sentence in marked.split("¦")]


def test_blank_text_has_no_sentences() -> None:
    assert find_sentences(" \n\n ") == []


# Splitting


def test_a_document_that_fits_is_one_passage_with_its_id() -> None:
    document = Document("d", "One two. Three four.")
    passages = split_document(document, count_tokens=count_words, max_tokens=4)
    assert passages == [Passage("d", "d", document.text)]


def test_passages_of_a_longer_document_are_numbered_from_one() -> None:
    document = Document("d", "One two. Three four.")
    passages = split_document(document, count_tokens=count_words, max_tokens=3)
    assert passages == [Passage("d#1", "d", "One two."), Passage("d#2", "d", "Three four.")]


def test_passages_are_of_about_equal_length() -> None:
    assert word_counts("One two. " * 10, max_tokens=8) == [6, 8, 6]


def test_no_last_passage_is_left_with_one_short_sentence() -> None:
    text = "A a a a a a. B b b b b b. C c c c c c. D d d d d d. Eve."
    assert word_counts(text, max_tokens=24) == [12, 13]


def test_where_equal_parts_do_not_fit_the_longest_passage_is_as_short_as_can_be() -> None:
    text = "A a a a. B b b b b b. C c. D d d d d d d d. Eve. Fay."  # 4, 6, 2, 8, 1, 1 words
    assert word_counts(text, max_tokens=9) == [4, 8, 8, 2]  # greedy cuts: 4, 8, 9, 1


def test_joined_text_is_counted_and_not_the_sum_of_its_sentences() -> None:
    document = Document("d", "One two. Three four. Five six.")
    # Nine tokens joined, though the sentences alone would be thought to have three times seven.
    passages = split_document(document, count_tokens=lambda text: 5 + count_words(text), max_tokens=9)
    assert [passage.text for passage in passages] == ["One two.", "Three four. Five six."]


def test_white_space_within_a_passage_stays_as_it_is() -> None:
    text = "One  two.\n\nThree\tfour.  \n Five six seven."
    assert split_words(text, max_tokens=4) == ["One  two.\n\nThree\tfour.", "Five six seven."]


def draw_text(rng: random.Random) -> str:
    words = [
        "Orlin",
        "the",
        "Dr.",
        "e.g.",
        "U.S.",
        "3.5",
        "No.",
        "東京。",
        "a-b",
        "«x»",
        "\n# x",
        "\n- y",
        "é",
    ]
    ends = [". ", "! ", "?\n", '." ', "\n\n", "。", ".[1] ", "\u00a0", ". \u2028", "\n"]
    return "x" + "".join(rng.choice(words) + rng.choice([" ", " ", *ends]) for _ in range(rng.randint(1, 60)))


@pytest.mark.parametrize("count_tokens", [count_words, count_pieces, len])
def test_of_any_text_nothing_is_lost_and_every_passage_fits(count_tokens: Callable[[str], int]) -> None:
    rng = random.Random(0)
    for _ in range(150):
        document = Document("d", draw_text(rng))
        longest = max(map(count_tokens, sentences(document.text)))
        limit = longest + rng.randint(0, 2 * longest)
        passages = split_document(document, count_tokens=count_tokens, max_tokens=limit)
        assert letters("".join(passage.text for passage in passages)) == letters(document.text)
        assert all(0 < count_tokens(passage.text) <= limit for passage in passages)
        assert count_covered(document.text, [p.text for p in passages]) == count_characters(document.text)


def fewest_passages(text: str, max_tokens: int) -> int:
    """By trying every cut."""
    spans = find_sentences(text)
    best = [0]
    for last in range(1, len(spans) + 1):
        starts = [
            first
            for first in range(last)
            if count_words(text[spans[first].start : spans[last - 1].end]) <= max_tokens
        ]
        best.append(1 + min(best[first] for first in starts))
    return best[-1]


def test_there_are_as_few_passages_as_brute_force_finds() -> None:
    rng = random.Random(1)
    for _ in range(150):
        text = draw_text(rng)
        limit = max(map(count_words, sentences(text))) + rng.randint(0, 9)
        assert len(split_words(text, limit)) == fewest_passages(text, limit)


def test_sentences_have_only_white_space_between_them() -> None:
    rng = random.Random(2)
    for _ in range(150):
        text = draw_text(rng)
        spans = [(0, 0), *find_sentences(text), (len(text), len(text))]
        assert all(not text[end:start].strip() for (_, end), (start, _) in pairwise(spans))


def test_a_long_document_needs_few_counts() -> None:
    calls = 0

    def count(text: str) -> int:
        nonlocal calls
        calls += 1
        return count_words(text)

    split_document(Document("d", "One two three. " * 3000), count_tokens=count, max_tokens=300)
    assert calls < 3000 + 5 * 30


def test_a_sentence_that_does_not_fit_is_cut_into_equal_parts_at_words() -> None:
    assert word_counts("Short one. " + "Long " * 40 + "one.", max_tokens=40) == [23, 20]


def test_a_character_that_does_not_fit_is_refused_with_place_and_length() -> None:
    document = Document("d", "One. Two.", source="facts.jsonl line 3")
    with pytest.raises(DataError) as caught:
        split_document(document, count_tokens=lambda text: 3 * len(text), max_tokens=2)
    assert str(caught.value) == (
        "facts.jsonl line 3: the character 'O' has 3 tokens, at most 2 fit; raise max_tokens"
    )


def test_a_document_without_source_is_named_by_its_id() -> None:
    with pytest.raises(DataError, match=r"^document 'd': the character 'T' has 2 tokens"):
        split_document(Document("d", "Two words."), count_tokens=lambda text: 2 * len(text), max_tokens=1)


def test_an_empty_document_is_refused() -> None:
    with pytest.raises(DataError, match=r"^document 'd': the document is empty; write its text or leave it"):
        split_words(" ", max_tokens=1)


# Many documents


def test_passages_of_all_documents_come_in_order() -> None:
    documents = [Document("b", "One two. Three four."), Document("a", "Five.")]
    passages = list(iter_passages(documents, count_tokens=count_words, max_tokens=2))
    assert [passage.id for passage in passages] == ["b#1", "b#2", "a"]


def test_a_passage_id_that_is_the_id_of_another_document_is_refused() -> None:
    documents = [Document("a", "One. Two."), Document("a#2", "Three.", source="b.txt")]
    with pytest.raises(DataError) as caught:
        list(iter_passages(documents, count_tokens=count_words, max_tokens=1))
    assert str(caught.value) == (
        "b.txt: passage id 'a#2' is taken by document 'a'; give one of them another id"
    )


def test_documents_that_cannot_be_split_are_told_and_the_others_come() -> None:
    documents = [Document("a", " "), Document("b", "One."), Document("b", "Two."), Document("c", "Three.")]
    problems: list[str] = []
    passages = list(
        iter_passages(
            documents, count_tokens=count_words, max_tokens=5, on_problem=lambda e: problems.append(str(e))
        )
    )
    assert [passage.text for passage in passages] == ["One.", "Three."]
    assert [problem.partition(";")[0] for problem in problems] == [
        "document 'a': the document is empty",
        "documents: passage id 'b' is taken by document 'b'",
    ]


def test_that_no_document_can_be_split_is_an_error_even_when_going_on() -> None:
    documents = [Document("a", " "), Document("b", " ")]
    with pytest.raises(
        DataError, match=r"^no document could be split into passages; the first: document 'a'"
    ):
        list(
            iter_passages(documents, count_tokens=count_words, max_tokens=5, on_problem=lambda problem: None)
        )


# Coverage


def test_covered_are_the_visible_characters_that_passages_hold() -> None:
    assert count_covered("Six let. Lost.", ["Six let."]) == len("Sixlet.")


def test_a_changed_or_repeated_passage_covers_nothing() -> None:
    assert count_covered("Abc. Def.", ["Abc.", "Abc.", "Dex."]) == len("Abc.")


# Headings


def test_a_heading_stands_on_every_passage_and_fits_with_it() -> None:
    document = Document("d", "One two. Three four. Five six.", "A title")
    passages = list(
        iter_passages([document], count_tokens=count_words, max_tokens=6, heading=lambda d: f"{d.title}\n")
    )
    assert [passage.training_text for passage in passages] == [
        "A title\nOne two.",
        "A title\nThree four. Five six.",
    ]
    assert count_covered(document.text, [p.text for p in passages]) == count_characters(document.text)


def test_tokens_that_join_at_the_end_of_a_heading_are_counted_as_they_are() -> None:
    # Four tokens apart, and five together, as if the seam made one more.
    def count(text: str) -> int:
        return count_words(text) + ("title\nOne" in text)

    split = split_document(Document("d", "One. Two."), count_tokens=count, max_tokens=4, heading="A title\n")
    assert [passage.text for passage in split] == ["One.", "Two."]


def test_a_heading_that_leaves_less_than_half_is_refused_with_its_document() -> None:
    document = Document("d", "One.", source="a.txt")
    with pytest.raises(DataError) as caught:
        split_document(document, count_tokens=count_words, max_tokens=4, heading="A long title\n")
    assert str(caught.value) == (
        "a.txt: its heading has 3 tokens, expected at most 2, half of max_tokens: 'A long title\\n'; "
        "shorten its title or leave headings out"
    )


def test_a_text_that_surely_fits_is_not_counted() -> None:
    def refuse(_: str) -> int:
        raise AssertionError

    seen: list[str] = []
    (passage,) = split_document(
        Document("d", "One."),
        count_tokens=refuse,
        max_tokens=1,
        heading="H\n",
        surely_fits=lambda text: not seen.append(text),
    )
    assert (passage.training_text, seen) == ("H\nOne.", ["H\nOne."])


def test_passages_come_before_the_documents_are_at_their_end() -> None:
    documents = (Document(str(number), "One.") for number in count())
    passages = iter_passages(documents, count_tokens=count_words, max_tokens=1)
    assert [next(passages).id for _ in range(3)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("ids", "taken", "owner"),
    [(("a", "a#2"), "a#2", "a"), (("a#2", "a"), "a#2", "a#2"), (("a", "a"), "a#1", "a#1")],
)
def test_the_owner_of_a_passage_id_is_named(ids: tuple[str, str], taken: str, owner: str) -> None:
    documents = [Document(name, "One. Two." if name == "a" else "One.") for name in ids]
    with pytest.raises(DataError, match=f"passage id '{taken}' is taken by document '{owner}'"):
        list(iter_passages(documents, count_tokens=count_words, max_tokens=1))
