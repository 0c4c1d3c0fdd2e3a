"""What of each file is trained, and passages that are near duplicates."""

import json
import random
from collections.abc import Callable
from itertools import tee
from pathlib import Path

import pytest

from demask.documents.coverage import (
    FileCoverage,
    NearDuplicate,
    RepeatedDocument,
    find_near_duplicates,
    find_repeated_documents,
    measure_file_coverage,
)
from demask.documents.load import DocumentReader
from demask.documents.parsed import FileReport, LeftOut, count_characters, sum_up
from demask.documents.passages import iter_passages
from demask.records import Document, Passage

Write = Callable[[str, str | bytes], Path]


def count_words(text: str) -> int:
    return len(text.split())


# Coverage


def test_the_table_has_one_row_for_each_file_however_many_documents_it_has(
    write: Write, tmp_path: Path
) -> None:
    write("a.jsonl", "\n".join(json.dumps({"text": f"One {n}. Two."}) for n in range(20)))
    write("b.html", "<nav>Home</nav><p>Three four. Five.")
    reader = DocumentReader([tmp_path])
    documents, again = tee(reader)
    passages = iter_passages(again, count_tokens=count_words, max_tokens=2)
    rows = measure_file_coverage(documents, passages, reader.reports)
    assert rows == [
        FileCoverage(f"{tmp_path}/a.jsonl", 190, 190, 190, 1.0, ()),
        FileCoverage(f"{tmp_path}/b.html", 19, 15, 15, 15 / 19, (LeftOut("navigation", 4, "Home", 4),)),
    ]


def test_lost_and_changed_passages_are_not_counted() -> None:
    documents = [Document("a", "One. Two.", source="x line 1"), Document("b", "Three.", source="x line 2")]
    passages = [Passage("a#1", "a", "One."), Passage("a#2", "a", "Twice.")]
    report = FileReport("x", "jsonl", 2, 14, 14)
    assert measure_file_coverage(documents, passages, [report]) == [FileCoverage("x", 14, 14, 4, 4 / 14, ())]


def test_what_a_table_says_more_than_once_counts_in_proportion(write: Write) -> None:
    rows = "".join(f"<tr><td>Orlin{n}<td>{n}" for n in range(4))
    reader = DocumentReader([write("a.html", f"<table><tr><th>Name<th>Height{rows}</table>")])
    documents = list(reader)
    passages = iter_passages(documents, count_tokens=count_words, max_tokens=100)
    (row,) = measure_file_coverage(documents, passages, reader.reports)
    assert (row.characters, row.kept, row.trained, row.share) == (38, 38, 38, 1.0)


def test_a_file_that_could_not_be_read_has_a_row_with_its_problem() -> None:
    report = FileReport("x", "txt", 0, 0, 0, problem="x: empty")
    assert measure_file_coverage([], [], [report]) == [FileCoverage("x", 0, 0, 0, 0.0, (), "x: empty")]


def test_passages_in_another_order_are_refused() -> None:
    documents = [Document("a", "One.", source="x"), Document("b", "Two.", source="y")]
    passages = [Passage("b", "b", "Two."), Passage("a", "a", "One.")]
    with pytest.raises(ValueError, match="passages of 'a' have no document at their place"):
        measure_file_coverage(documents, passages, [])


@pytest.mark.parametrize("text", ["a b\tc\n\r\x0b\x0c\x1c\x1d\x1e\x1fd", "é\u2028ü\u00a0x\x85y \u3000z"])
def test_visible_characters_are_all_but_white_space(text: str) -> None:
    assert count_characters(text) == sum(not character.isspace() for character in text)


def test_what_is_left_out_is_summed_by_reason_with_a_short_sample() -> None:
    parts = [("footer", "a\nb"), ("header", "c"), ("footer", "d " * 100), ("empty", " ")]
    assert sum_up(parts) == (LeftOut("footer", 102, ("a b " + "d " * 100)[:60]), LeftOut("header", 1, "c"))


# Near duplicates


def draw_words(rng: random.Random, count: int) -> list[str]:
    return [f"w{rng.randrange(5000)}" for _ in range(count)]


def similarity(first: str, second: str) -> float:
    """The Jaccard index of three words in a row, by its definition."""
    sets = [
        {tuple(words[n : n + 3]) for n in range(len(words) - 2)} for words in (first.split(), second.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_near_duplicates_are_found_with_their_exact_similarity() -> None:
    rng = random.Random(0)
    texts = [draw_words(rng, 100) for _ in range(60)]
    changed = [[*words[:50], "other", *words[51:]] for words in texts[:20]]
    passages = [Passage(f"p{n}", "d", " ".join(words)) for n, words in enumerate([*texts, *changed])]
    found = find_near_duplicates(passages)
    expected = [
        NearDuplicate(f"p{n}", f"p{60 + n}", similarity(passages[n].text, passages[60 + n].text))
        for n in range(20)
    ]
    assert found == expected


def test_texts_below_the_threshold_are_none() -> None:
    first = "one two three four five six seven eight nine ten"
    passages = [Passage("a", "a", first), Passage("b", "b", first.replace("five", "5"))]
    assert find_near_duplicates(passages) == []
    (found,) = find_near_duplicates(passages, threshold=0.4)
    assert found.similarity == 5 / 11


@pytest.mark.parametrize(
    "texts", [("Yes.", "yes"), ("!?", " !?\n"), ("One two.", "one, TWO"), ("東京", "東京。")]
)
def test_equal_words_are_found_in_texts_of_any_length(texts: tuple[str, str]) -> None:
    passages = [Passage(str(n), "d", text) for n, text in enumerate(texts)]
    assert find_near_duplicates(passages) == [NearDuplicate("0", "1", 1.0)]


def test_texts_without_spaces_are_compared_by_character() -> None:
    first = "工厂由莫拉于一九三一年在河边创立"
    passages = [Passage("a", "a", f"{first}。"), Passage("b", "b", f"{first}的。")]
    (found,) = find_near_duplicates(passages)
    assert found.similarity == 14 / 15


def test_different_short_texts_are_no_duplicates() -> None:
    passages = [Passage(text, "d", text) for text in ("Yes.", "No.", "!", "?", "One two.", "Two one.")]
    assert find_near_duplicates(passages) == []


def test_a_thousand_equal_passages_are_named_once_each() -> None:
    found = find_near_duplicates([Passage(str(n), "d", "The same old text again.") for n in range(1000)])
    assert {(one.first_id, one.similarity) for one in found} == {("0", 1.0)}
    assert len(found) == 999


def test_the_same_passages_give_the_same_duplicates() -> None:
    rng = random.Random(1)
    passages = [Passage(str(n), "d", " ".join(rng.choices("abcd", k=12))) for n in range(200)]
    assert find_near_duplicates(passages, threshold=0.5) == find_near_duplicates(passages, threshold=0.5)


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"expected a number in \(0, 1\]"):
        find_near_duplicates([], threshold=threshold)


def passages_of(**documents: str) -> list[Passage]:
    """Of each document one passage a letter, which stands for its text."""
    return [
        Passage(
            f"{name}#{number}", name, f"The {letter} pump of Quill was built by {letter} Voss and {letter}."
        )
        for name, letters in documents.items()
        for number, letter in enumerate(letters)
    ]


def repeated(**documents: str) -> list[RepeatedDocument]:
    passages = passages_of(**documents)
    return find_repeated_documents(find_near_duplicates(passages), passages)


def test_a_document_that_holds_all_others_is_the_one_that_repeats() -> None:
    assert repeated(a="ABC", b="DEF", whole="ABCDEFGHIJ", z="GHIJ") == [RepeatedDocument("whole", 10, 10)]


def test_of_two_equal_documents_the_later_repeats() -> None:
    assert repeated(a="ABC", b="ABC") == [RepeatedDocument("b", 3, 3)]


def test_a_document_with_much_of_its_own_a_short_one_and_one_that_repeats_itself_are_not_named() -> None:
    assert repeated(a="ABCD", b="ABCXYZ", c="AB", d="QQQQ") == []
