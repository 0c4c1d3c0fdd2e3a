"""Masks are functions of their key, have the ratio asked for, and keep words whole."""

import math
import os
import random
import subprocess
import sys
import unicodedata
from types import SimpleNamespace
from typing import Any

import pytest

from demask.errors import ModelError
from demask.objectives.masking import (
    draw_masking,
    draw_ratio,
    entity_groups,
    find_mentions,
    keyed_rng,
    word_groups,
)

pytestmark = pytest.mark.smoke

ODD_TEXTS = [
    "",
    " ",
    "\n\n",
    "Mara",
    " leading space",
    "trailing space ",
    "two\nlines",
    "a\n\n\n  b\tc \r\n d",
    "Mara Voss, founder (1931).",
    "🙂 emoji 👩‍👩‍👧 family 🏳️‍🌈",
    "東京は日本の首都です。 大阪",
    "Ünïcödé naïve\u00a0fixed\u2003wide",
    "antidisestablishmentarianism " * 3,
    "It says <|im_end|> here.",
]


def draw(*key, tokens=200):
    return draw_masking(range(tokens), 0.5, keyed_rng(*key))


def test_same_key_same_draw():
    assert draw(7, "d1", 3, 0) == draw(7, "d1", 3, 0)


@pytest.mark.parametrize("key", [(8, "d1", 3, 0), (7, "d2", 3, 0), (7, "d1", 4, 0), (7, "d1", 3, 1)])
def test_another_seed_document_epoch_or_variant_is_another_draw(key):
    assert draw(*key) != draw(7, "d1", 3, 0)


def test_parts_of_a_key_do_not_run_together():
    assert draw(1, "2", 3) != draw("12", 3)


def test_draw_is_the_same_in_another_process():
    code = (
        "from demask.objectives.masking import *;"
        "print(draw_masking(range(64), 0.5, keyed_rng(0, 'Ünï', 1, 0)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert found.stdout.strip() == str(draw(0, "Ünï", 1, 0, tokens=64)), found.stderr


def test_draw_is_the_same_as_in_the_first_release():
    assert round(keyed_rng(0, "d1", 0, 0).random(), 12) == 0.471316198366
    assert "".join("01"[hide] for hide in draw(0, "d1", 0, 0, tokens=20)) == "11101010001111000010"


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.5, 0.95])
def test_mean_share_of_masked_tokens_is_the_ratio(ratio):
    tokens = 20_000
    share = sum(draw_masking(range(tokens), ratio, keyed_rng("share", ratio))) / tokens
    assert abs(share - ratio) < 4 * math.sqrt(ratio * (1 - ratio) / tokens)


def test_neighbours_are_masked_independently():
    masked = draw_masking(range(20_000), 0.5, keyed_rng("neighbours"))
    both = sum(a and b for a, b in zip(masked[::2], masked[1::2], strict=True)) / 10_000
    assert abs(both - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 10_000)


def test_ratio_zero_masks_nothing_and_one_everything():
    assert not any(draw_masking(range(1000), 0.0, random.Random(0)))
    assert all(draw_masking(range(1000), 1.0, random.Random(0)))


def test_no_tokens_no_masks():
    assert draw_masking([], 0.5, random.Random(0)) == ()


def test_ratios_are_uniform_over_their_range():
    rng = random.Random(0)
    ratios = sorted(draw_ratio(rng, 0.05, 0.95) for _ in range(2000))
    assert ratios[0] >= 0.05
    assert ratios[-1] <= 0.95
    # Kolmogorov-Smirnov against the uniform distribution, at one in a thousand.
    gaps = [abs((ratio - 0.05) / 0.9 - (rank + 0.5) / 2000) for rank, ratio in enumerate(ratios)]
    assert max(gaps) < 1.95 / math.sqrt(2000)


def test_a_fixed_ratio_is_kept_exactly():
    assert draw_ratio(random.Random(0), 0.4, 0.4) == 0.4


def test_tokens_of_a_group_share_their_fate():
    groups = [0, 0, 1, 2, 2, 2, 1, 3]
    for seed in range(50):
        masked = draw_masking(groups, 0.5, random.Random(seed))
        for group in set(groups):
            assert len({hide for hide, of in zip(masked, groups, strict=True) if of == group}) == 1


def test_long_words_are_masked_no_more_often_than_short_ones():
    groups = [0] * 9 + [1]
    draws = [draw_masking(groups, 0.5, keyed_rng(seed)) for seed in range(2000)]
    for place in (0, 9):
        assert abs(sum(masked[place] for masked in draws) / 2000 - 0.5) < 4 * math.sqrt(0.25 / 2000)


UNSPACED_SCRIPTS = {"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER"}


def word_of_each_letter(text):
    """Brute force: walk over the letters; white space counts to the next word, at the end to the last.

    A letter of a script without spaces is a word.
    """
    words, word, inside = [], -1, False
    for letter in text:
        alone = unicodedata.name(letter, "?").split()[0] in UNSPACED_SCRIPTS
        if not letter.isspace() and (alone or not inside):
            word += 1
        inside = not letter.isspace() and not alone
        words.append(word + 1 if letter.isspace() else word)
    return [max(0, min(number, word)) for number in words]


@pytest.mark.parametrize("trims", [False, True], ids=["offsets-as-they-are", "offsets-trimmed"])
@pytest.mark.parametrize("text", ODD_TEXTS, ids=repr)
def test_word_groups_are_those_of_brute_force(tiny_tokenizer, text, trims):
    from tokenizers import processors

    tiny_tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=trims)
    encoding = tiny_tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    words = word_of_each_letter(text)
    expected = []
    for start, end in encoding["offset_mapping"]:
        letters = [place for place in range(start, end) if not text[place].isspace()]
        after = end if end < len(text) else len(text) - 1
        expected.append(words[letters[0] if letters else after])
    assert list(word_groups(tiny_tokenizer, text)) == expected


@pytest.mark.parametrize("text", ODD_TEXTS, ids=repr)
def test_word_groups_cover_every_token_in_order(tiny_tokenizer, text):
    from demask.objectives.prompts import encode

    groups = word_groups(tiny_tokenizer, text)
    assert len(groups) == len(encode(tiny_tokenizer, text))
    assert list(groups) == sorted(groups)
    assert set(range(len(text.split()))) <= {*groups}


SLOW: Any = SimpleNamespace(is_fast=False)


def test_words_need_a_tokenizer_that_knows_where_its_tokens_stand(tiny_tokenizer):
    with pytest.raises(ModelError, match="fast tokenizer"):
        word_groups(SLOW, "Mara Voss")


def test_entities_need_one_too(tiny_tokenizer):
    with pytest.raises(ModelError, match="set unit to 'token' and entity to 'as-others'"):
        find_mentions(SLOW, "Mara Voss", "Voss")


@pytest.mark.parametrize("text", ODD_TEXTS, ids=repr)
def test_entities_are_made_of_whole_words(tiny_tokenizer, text):
    words, entities = word_groups(tiny_tokenizer, text), entity_groups(tiny_tokenizer, text)
    assert list(entities) == sorted(entities)
    assert len(set(zip(words, entities, strict=True))) == len(set(words))


def test_tokens_of_a_name_make_one_group(tiny_tokenizer):
    text = 'Then Ursula von der Leyen read "the long night" aloud.'
    groups = entity_groups(tiny_tokenizer, text)
    units = {
        number: tiny_tokenizer.decode(
            [
                token
                for token, of in zip(tiny_tokenizer(text)["input_ids"], groups, strict=True)
                if of == number
            ]
        ).strip()
        for number in sorted(set(groups))
    }
    assert list(units.values()) == ["Then Ursula von der Leyen", "read", '"the long night"', "aloud."]


def mentioned(tokenizer, text, entity):
    """The stretches of the text whose tokens are mentions, without spaces around them."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    flags = find_mentions(tokenizer, text, entity)
    marked = "".join(tokenizer.decode([token]) if its else "|" for token, its in zip(ids, flags, strict=True))
    return [part.strip() for part in marked.split("|") if part.strip()]


@pytest.mark.parametrize(
    ("text", "entity", "expected"),
    [
        ("It was Mara Voss, and Voss's son.", "Mara Voss", ["Mara Voss", "Voss"]),
        ("Vossberg is no Voss.", "Mara Voss", ["Voss"]),
        ("Mara\nVoss sold it.", "Mara Voss", ["Mara\nVoss"]),
        ("The bank of Orlin, not the river.", "The Bank of Orlin", ["Orlin"]),
        ("A day later J. R. Hale saw A. Poe.", "J. R. Hale", ["J. R. Hale"]),
        ("the river tarn runs, tarn by name.", "river tarn", ["river tarn"]),
        ("Nobody is named.", "Mara Voss", []),
        ("Mara Voss", "", []),
    ],
)
def test_mentions_are_the_name_and_its_capitalised_words_at_word_bounds(
    make_tokenizer, text, entity, expected
):
    letters = make_tokenizer(vocabulary=0)  # a token each, so that the bounds are seen
    assert mentioned(letters, text, entity) == expected


def test_a_name_is_mentioned_within_a_script_without_spaces(tiny_tokenizer):
    text = "工厂由莫拉创立。"
    flags = find_mentions(tiny_tokenizer, text, "莫拉")
    offsets = tiny_tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    assert {span for span, flag in zip(offsets, flags, strict=True) if flag} == {(3, 4), (4, 5)}


def test_a_token_that_reaches_into_a_name_is_a_mention(tiny_tokenizer):
    text = "so said Mara Voss"
    flags = find_mentions(tiny_tokenizer, text, "Mara Voss")
    offsets = tiny_tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    assert list(flags) == [end > text.index("Mara") for _, end in offsets]


def test_scripts_without_spaces_have_a_word_in_each_character(tiny_tokenizer):
    text = "莫拉于1931年 founded Orlin。"
    groups = word_groups(tiny_tokenizer, text)
    assert len(set(groups)) == len(["莫", "拉", "于", "1931", "年", "founded", "Orlin。"])
    assert list(groups) == sorted(groups)
    assert len(set(entity_groups(tiny_tokenizer, text))) <= 3  # units of names are cut at spaces alone
