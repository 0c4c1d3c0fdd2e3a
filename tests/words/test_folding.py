"""Characters that look or mean the same are spelt alike, and each knows where it came from."""

# ruff: noqa: RUF001 - odd characters are what is tested.

import re
import unicodedata

import pytest

from demask.words import UNSPACED, Folded, fold

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Voss’s", "Voss's"),
        ("O`Hara Hawaiʻi", "O'Hara Hawai'i"),
        ("−5 – 10‑12", "-5 - 10-12"),
        ("Ｖｏｓｓ２５", "Voss25"),
        ("٢٥ २५ ๒๕", "25 25 25"),
        ("ﬁsh H₂O", "fish H2O"),
        ("10⁶ 10⁻³ m²", "10^6 10^-3 m^2"),
        ("½ 1½ 3 ¾", "1/2 1+1/2 3 3/4"),
        ("Orlin™ ©", "Orlin   "),
        ("1…5", "1 5"),
        ("so\u00adft \ufeffBOM", "soft BOM"),
        ("Cafe\u0301", "Café"),
        ("\u1112\u1161\u11ab", "한"),
    ],
)
def test_what_means_the_same_is_spelt_the_same(text: str, folded: str) -> None:
    assert fold(text).text == folded


def test_plain_text_is_left_as_it_is() -> None:
    text = "Mara Voss's 25 rooms (Café Zoë), 1,200.50."
    assert fold(text) == Folded(text)


@pytest.mark.parametrize(
    "text", ["Ｍａｒａ ½ Vo\u00adss", "Ze\u0301 1½ 10⁻³ Orlin", "\u1112\u1161\u11ab x² ﬁn"]
)
def test_every_character_knows_where_it_came_from(text: str) -> None:
    folded = fold(text)
    starts = [folded.span(place, place + 1) for place in range(len(folded.text))]
    assert starts == sorted(starts)
    for place, letter in enumerate(folded.text):
        span = folded.span(place, place + 1)
        if letter.isalpha():
            assert letter in unicodedata.normalize("NFKC", text[span.start : span.end])


@pytest.mark.parametrize("character", ["ก", "ລ", "က", "ក", "の", "ー", "々", "漢", "㐀", "𠀀"])
def test_scripts_without_spaces_are_known(character: str) -> None:
    assert re.fullmatch(f"[{UNSPACED}]", character)


@pytest.mark.parametrize("character", ["a", "ж", "한", "א", "ह", "5", "-"])
def test_scripts_with_spaces_are_none_of_them(character: str) -> None:
    assert not re.fullmatch(f"[{UNSPACED}]", character)
