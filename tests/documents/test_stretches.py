# ruff: noqa: RUF001 (texts in many scripts)
"""Texts without sentence ends are cut at the best places there are, and each such document is named."""

import random
from collections.abc import Callable, Sequence

import pytest

from demask.documents.coverage import DocumentCuts, count_covered, find_cuts
from demask.documents.parsed import count_characters
from demask.documents.passages import iter_passages, split_document
from demask.documents.sentences import is_grapheme_start
from demask.records import Document


def count_words(text: str) -> int:
    return len(text.split())


def count_bytes(text: str) -> int:
    return len(text.encode())


def split(text: str, max_tokens: int, count_tokens: Callable[[str], int] = count_words) -> list[str]:
    document = Document("d", text)
    return [p.text for p in split_document(document, count_tokens=count_tokens, max_tokens=max_tokens)]


def cuts(
    *texts: str, max_tokens: int, count_tokens: Callable[[str], int] = count_words
) -> list[DocumentCuts]:
    documents = [Document(f"d{n}", text, source=f"{n}.txt") for n, text in enumerate(texts)]
    return list(
        find_cuts(documents, iter_passages(documents, count_tokens=count_tokens, max_tokens=max_tokens))
    )


@pytest.mark.parametrize(
    "lines",
    [
        [f"Part {n}\t{n} Nm\t{n} months" for n in range(40)],
        [f"– Bolt {n} takes {n} Nm" for n in range(40)],
        [f"2024-01-01 10:00:{n:02d} INFO started job {n}" for n in range(40)],
        ["```python", *(f"    x{n} = f({n}, {n})" for n in range(40)), "```"],
        ["the river runs and does not end"] * 40,
    ],
)
def test_a_text_of_lines_is_cut_between_lines(lines: Sequence[str]) -> None:
    passages = split("\n".join(lines), max_tokens=60)
    assert [line.strip() for passage in passages for line in passage.split("\n")] == [
        line.strip() for line in lines
    ]
    assert all(count_words(passage) <= 60 for passage in passages)
    assert len(passages) <= -(-sum(map(count_words, lines)) // 60) + 1


@pytest.mark.parametrize(
    ("clause", "mark"),
    [
        ("奥林工厂由莫拉于1932年创立，", "，"),
        ("the works, ", ","),
        ("первый завод; ", ";"),
        ("المصنع الأول، ", "،"),
        ("she said “so”, – ", ","),
    ],
)
def test_a_line_that_is_too_long_is_cut_at_ends_of_clauses(clause: str, mark: str) -> None:
    passages = split(clause * 60, 400, count_bytes)
    assert len(passages) > 1
    assert all(passage[-1] in (mark, "–") for passage in passages)


def test_a_number_is_not_cut_at_its_comma() -> None:
    passages = split("1,000,000 " * 40, 95, count_bytes)
    assert {word for passage in passages for word in passage.split()} == {"1,000,000"}


def test_a_clause_that_is_too_long_is_cut_between_words() -> None:
    thai = "โรงงานออร์ลินก่อตั้งโดยโมรา"
    passages = split(f"{thai} " * 50, 500, count_bytes)
    assert {word for passage in passages for word in passage.split()} == {thai}


def test_a_word_that_is_too_long_is_cut_between_characters() -> None:
    text = "abcdefghij" * 10
    assert split(text, 25, count_bytes) == [text[first : first + 25] for first in range(0, 100, 25)]


@pytest.mark.parametrize(
    "character",
    ["e\u0301", "👩🏽\u200d🚒", "🇩🇪", "क्षि", "เก", "ก่ำ", "한", "❤\ufe0f", "🏴\U000e0067\U000e0062\U000e007f"],
)
def test_a_character_of_several_code_points_is_not_cut(character: str) -> None:
    passages = split(character * 40, 100, count_bytes)
    assert len(passages) > 1
    assert all(set(passage.split(character)) == {""} for passage in passages)


def test_a_character_that_alone_is_too_long_is_cut_within() -> None:
    stacked = "e" + "\u0301" * 30
    assert "".join(split(stacked, 10, count_bytes)) == stacked


def test_flags_are_told_apart_in_pairs() -> None:
    flags = "a🇩🇪🇫🇷"
    assert [place for place in range(1, len(flags)) if is_grapheme_start(flags, place)] == [1, 3]


def draw_text(rng: random.Random) -> str:
    words = [
        "Orlin",
        "1,5",
        "工厂，",
        "โรงงาน",
        "a" * 30,
        "🇩🇪",
        "e\u0301",
        "x;",
        "End.",
        "—",
        "\t",
        "  ",
        "。",
    ]
    return "x" + "".join(
        rng.choice(words) + rng.choice(["", " ", " ", "\n"]) for _ in range(rng.randint(1, 80))
    )


@pytest.mark.parametrize("limit", [4, 5, 9, 17, 60])
def test_of_any_text_nothing_is_lost_and_every_passage_fits(limit: int) -> None:
    rng = random.Random(limit)
    for _ in range(60):
        text = draw_text(rng)
        passages = split(text, limit, count_bytes)
        assert "".join("".join(passages).split()) == "".join(text.split())
        assert all(0 < count_bytes(passage) <= limit for passage in passages)
        assert count_covered(text, passages) == count_characters(text)


def test_a_long_line_needs_few_counts() -> None:
    calls = 0

    def count(text: str) -> int:
        nonlocal calls
        calls += 1
        return count_words(text)

    passages = split("word " * 30_000, 300, count)
    assert len(passages) <= 110
    assert calls < 800


# What is cut where


def test_a_document_that_is_cut_at_sentences_is_not_named() -> None:
    assert cuts("One two. Three four.", "Five.", max_tokens=3) == []


def test_each_kind_of_cut_is_counted_and_the_first_is_shown() -> None:
    (lines,) = cuts("One two. Three four.", "one two\nthree four\nfive six", max_tokens=3)
    assert lines == DocumentCuts("1.txt", 2, 0, 0, 0, "one two|three four\nfive six")
    (clauses,) = cuts("one two, three four", max_tokens=2)
    assert clauses[1:5] == (0, 1, 0, 0)
    (words,) = cuts("one two three four", max_tokens=2)
    assert words[1:5] == (0, 0, 1, 0)
    (characters,) = cuts("abcdef", max_tokens=3, count_tokens=len)
    assert characters[1:5] == (0, 0, 0, 1)


def test_cuts_are_told_in_one_line() -> None:
    (found,) = cuts("one two\nthree four five six", max_tokens=2)
    assert found.describe() == (
        "0.txt: sentences longer than a passage are cut 1 at ends of lines, 1 at ends of words; "
        "the first at 'one two|three four five six'"
    )
