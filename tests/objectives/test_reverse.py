"""Words stand in reverse order, names and quoted titles keep theirs."""

import pytest

from demask.objectives.reverse import group_entities, reverse_words

pytestmark = pytest.mark.smoke

TEXTS = [
    "Mora Voss founded Orlin in 1931.",
    'In 1931 "The Long Night of Orlin" was shown, (so they say) in Bad Ems!',
    "Ursula von der Leyen met J. R. Hale and Dr. Ann Poe.",
    "no capitals here",
    "",
    "  one\n\ntwo\tthree ",
    "“Unfinished quotation mark of a text",
    "Bank of",
]


def test_the_example_of_the_module_holds():
    text = "Mora Voss founded Orlin in 1931."
    assert reverse_words(text, keep_entities=True) == "1931. in Orlin founded Mora Voss"


def test_single_words_are_all_that_is_kept_without_entities():
    text = "Mora Voss founded Orlin in 1931."
    assert reverse_words(text, keep_entities=False) == "1931. in Orlin founded Voss Mora"


@pytest.mark.parametrize(
    "name",
    [
        "Mara Voss",
        "Ursula von der Leyen",
        "Bank of England",
        "St. Mary Hall",
        "J. R. Hale",
        "Dr. Ann Poe",
        "Flight 93",
    ],
)
def test_names_stay_whole(name):
    text = f"yesterday {name} was seen"
    assert reverse_words(text, keep_entities=True) == f"seen was {name} yesterday"


@pytest.mark.parametrize("title", ['"the long night"', "“a night of rain”", "«la longue nuit»"])
def test_quoted_titles_stay_whole(title):
    assert reverse_words(f"she wrote {title} alone", keep_entities=True) == f"alone {title} wrote she"


@pytest.mark.parametrize("mark", [",", ".", ";", ":", "!", "?"])
def test_a_name_ends_at_punctuation(mark):
    assert group_entities(["Orlin" + mark, "Mara", "Voss"]) == [["Orlin" + mark], ["Mara", "Voss"]]


def test_a_particle_after_a_name_belongs_to_it_only_before_another_capital():
    assert group_entities("Orlin of the north".split()) == [["Orlin"], ["of"], ["the"], ["north"]]


def test_a_quotation_that_never_ends_is_cut_into_words():
    assert group_entities('"a night of'.split()) == [['"a'], ["night"], ["of"]]


@pytest.mark.parametrize("text", TEXTS)
def test_reversing_words_twice_gives_the_words_back(text):
    twice = reverse_words(reverse_words(text, keep_entities=False), keep_entities=False)
    assert twice.split() == text.split()


@pytest.mark.parametrize("text", TEXTS)
def test_no_word_is_lost_or_added(text):
    assert sorted(reverse_words(text, keep_entities=True).split()) == sorted(text.split())


@pytest.mark.parametrize("text", TEXTS)
def test_units_make_up_the_text(text):
    assert [word for unit in group_entities(text.split()) for word in unit] == text.split()
