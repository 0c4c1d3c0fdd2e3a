"""Signs that change what is said stay in the words; what does not, goes."""

# ruff: noqa: RUF001 - odd characters are what is tested.

import time

import pytest

from demask.words import Word, spell_number, split_words


def texts(text: str) -> list[str]:
    return [word.text for word in split_words(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("15 1.5 -5 −5 5. .5", "15 1.5 -5 -5 5 0.5"),
        ("12:30 1/2 10-12 10–12 16:9 24/7", "12:30 1/2 10-12 10-12 16:9 24/7"),
        ("25.0 25.50 1,5", "25 25.5 1.5"),
        ("1,200 1,200.50 1'200 12,34,567 1.200.000 1.200,5", "1200 1200.5 1200 1234567 1200000 1200.5"),
        ("10 000 people in 2020 100 years", "10000 people in 2020 100 years"),
        ("1e6 1.5E-3 1E+6 10^6 3x4 3×4", "1e6 1.5e-3 1e6 10^6 3x4 3x4"),
        ("3 1/2 3½", "3+1/2 3+1/2"),
        ("v1.2.3 1.2.3 192.168.1.1 3.11", "v1.2.3 1.2.3 192.168.1.1 3.11"),
        ("2024-05-12 12/5/2024 555-1234", "2024-05-12 12/5/2024 555-1234"),
        ("1987–1990, 1914–18", "1987 1990 1914-18"),
        ("1,2,3", "1 2 3"),
        ("5th 1990s 1990's 1931's 3D 5G 1,200th", "5th 1990s 1990s 1931 3d 5g 1200th"),
        ("5km 5 km 10am 10 a.m. 5m² 20°C", "5 km 5 km 10 am 10 am 5 m^2 20 c"),
        ("<5 ±5 5+ 5'10", "<5 ±5 5+ 5'10"),
    ],
)
def test_numbers(text: str, words: str) -> None:
    assert texts(text) == words.split()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("C, C++ C# F# .NET (C++17)", "c c++ c# f# .net c++ 17"),
        ("A+ A- AB- Disney+ Ca2+", "a+ a- ab- disney+ ca2+"),
        ("AT&T, R&D; Simon & Garfunkel", "at&t r&d simon and garfunkel"),
        ("U.S. Ph.D. Node.js", "us phd nodejs"),
        ("O'Hara’s rock 'n' roll", "oharas rock n roll"),
        ("Berlin/Hamburg Voss–Karl snake_case", "berlin hamburg voss karl snake case"),
        ("COVID-19 F-16 GPT-3.5 B12 H₂O", "covid19 f16 gpt3.5 b12 h2o"),
        ("mid-1990s 20-year-old", "mid 1990s 20 year old"),
        ("mara.voss@orlin.example https://orlin.example/a", "mara.voss@orlin.example orlinexample a"),
        ("founded by Voss.It was No.5", "founded by voss it was no 5"),
        ("**Voss** _Voss_ -Voss ...Voss… “Voss”—Voss--Voss", "voss voss voss voss voss voss voss"),
        ("STRASSE Straße", "strasse strasse"),
        ("हिन्दी مرحبا", "हिन्दी مرحبا"),
    ],
)
def test_words(text: str, words: str) -> None:
    assert texts(text) == words.split()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("工厂由莫拉创立。", "工 厂 由 莫 拉 创 立"),
        ("1931年にOrlinが", "1931 年 に orlin が"),
        ("マラ・ヴォス", "マ ラ ヴ ォ ス"),
        ("ｶﾞ", "ガ"),
        ("ที่นี่", "ที่ นี่"),
        ("๒๕ ปี", "25 ปี"),
    ],
)
def test_a_character_is_a_word_where_a_script_has_no_spaces(text: str, words: str) -> None:
    assert texts(text) == words.split()


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("$5", "$"),
        ("-$5", "$"),
        ("$-5", "$"),
        ("5€", "€"),
        ("5 €", "€"),
        ("5%", "%"),
        ("5 ‰", "‰"),
        ("5", ""),
    ],
)
def test_the_sign_of_a_number_is_told_apart_from_it(text: str, sign: str) -> None:
    (word,) = split_words(text)
    assert (word.text.strip("-"), word.sign) == ("5", sign)


def test_a_word_has_a_bare_form() -> None:
    assert [word.bare for word in split_words("Voss's v1.2 Voss")] == ["voss", "1.2", "voss"]


def test_parts_of_a_word_are_marked_and_numbers_are_no_parts() -> None:
    assert [word.joined for word in split_words("same-sex AC/DC a - b 1987-1990")] == [
        *(False, True),
        *(False, True),
        *(False, False),
        *(False, False),
    ]


def test_case_can_be_kept() -> None:
    assert [word.text for word in split_words("May may", keep_case=True)] == ["May", "may"]


def test_words_know_where_they_stand() -> None:
    text = "Ｖｏｓｓ’s ½ of $1,200, 5km"
    stand = [text[word.start : word.end] for word in split_words(text)]
    assert stand == ["Ｖｏｓｓ’s", "½", "of", "$1,200", "5", "km"]


@pytest.mark.parametrize("part", ["a-", "x1.1", "a_", "1,", "a@", "-1", "a.b", "\u0301", "½"])
def test_no_text_takes_long(part: str) -> None:
    start = time.process_time()
    split_words(part * 20_000)
    assert time.process_time() - start < 5  # quadratic time took 4 to 22 s


@pytest.mark.parametrize("text", ["", " \n", "?!…", "🎉"])
def test_a_text_without_words_has_none(text: str) -> None:
    assert split_words(text) == []


def test_a_word_by_itself_is_plain() -> None:
    assert split_words("Orlin") == [Word("orlin", 0, 5, "orlin")]


@pytest.mark.parametrize(
    ("text", "spelt"),
    [("0.50", "0.5"), ("0,200", "0.2"), ("007", "007"), ("1.2.30", "1.2.30"), ("1,200-1,300", "1200-1300")],
)
def test_numbers_are_spelt_by_value_and_nothing_else_is(text: str, spelt: str) -> None:
    assert spell_number(text) == (spelt,)
