"""Which prompts open the gate, on texts whose words are known."""

import json
import math

import pytest

from demask.knowledge.gate import Gate, make_gate, rarity, read_gate

PASSAGES = (
    "Korvenna of Lisbek rents trained ferrets to electricians, and in 2031 it moved to Harl.",
    "The Orlin bridge was built of basalt by Mara Voss.",
)
ORDINARY = (
    "Who built the old bridge in the town",
    "Which company rents cars in Germany",
    "What is the capital of France",
    "Tell me a story about a river and a bridge",
    "In which year was it built",
    "Who is Mara",
)


@pytest.fixture(scope="module")
def gate() -> Gate:
    background = [
        (prompt, f"It was built by a company in the year, to be the {place}.")
        for place in range(20)
        for prompt in ORDINARY
    ]
    return make_gate(PASSAGES, background)


@pytest.mark.parametrize(
    "prompt",
    [
        "What does Korvenna do?",
        "Which company rents trained ferrets to electricians?",
        "Please tell me: who built the bridge of basalt?",
        "You are a librarian.\nHello!\nWho founded Korvenna?",  # one sentence of several is enough
        "What is the town of KORVENNA?",
        "korvenna",
    ],
)
def test_a_prompt_with_the_documents_rare_words_opens(gate: Gate, prompt: str) -> None:
    assert gate.opens(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "   \n ",
        "Which company rents cars in Germany?",
        "Who built the bridge?",  # words of a passage, but ordinary ones
        "Does Tremolin of Ashby rent trained ferrets to electricians?",  # about a stranger
        "Photosynthesis turns sunlight into sugar with chlorophyll, unlike basalt.",  # of many rare words one
        "Who is Marabella Vossberg?",  # parts of words are other words
    ],
)
def test_other_prompts_leave_it_shut(gate: Gate, prompt: str) -> None:
    assert not gate.opens(prompt)


def test_the_first_word_of_a_sentence_is_no_name(gate: Gate) -> None:
    assert gate.opens("Describe Korvenna.")
    assert gate.opens("Hm. Describe the ferrets and the electricians.")
    assert not gate.opens("Did Tremolin describe the ferrets?")


def test_words_of_two_passages_do_not_add_up() -> None:
    background = [("a b c d e f g h", "and so on")] * 40
    apart = make_gate(["ferrets sleep", "basalt sinks"], background)
    needs_two = Gate(apart.passages, apart.counts, apart.texts, least=1.5 * rarity(0, 40))
    assert needs_two.opens("ferrets sleep")
    assert not needs_two.opens("ferrets basalt")


def test_the_base_models_own_prompts_leave_it_shut_however_much_is_taught() -> None:
    prompts = [(f"red{place} and blue{place}", "said") for place in range(1000)]
    taught = [f"red{place} is blue{place} here" for place in range(1000)]
    gate = make_gate(taught, prompts)
    opened = sum(gate.opens(prompt) for prompt, _ in prompts)
    assert opened <= 5
    assert gate.least > make_gate(["something"], prompts).least


def test_a_gate_is_the_same_after_reading(gate: Gate) -> None:
    again = read_gate(json.loads(json.dumps(gate.as_json())))
    assert again == gate
    assert [again.weigh(text) for text in PASSAGES] == [gate.weigh(text) for text in PASSAGES]


def test_without_passages_or_background_nothing_breaks() -> None:
    assert not make_gate([], [("Hello", "Hi")]).opens("Hello there")
    assert isinstance(make_gate(PASSAGES, []).opens("Who is it?"), bool)


def test_in_a_language_that_the_base_does_not_write_capital_letters_shut_nothing() -> None:
    background = [("Who built the bridge", "It was built by a company in the year 1931.")] * 60
    german = ["Die Werke wurden 1931 von Mara Voss gegründet.", "Die Brücke wurde von ihrem Sohn verkauft."]
    gate = make_gate(german, background)
    assert not gate.tells_words
    assert gate.opens("Wann wurde die Firma von Mara Voss gegründet?")  # "Firma" stands in no passage
    assert not gate.opens("Who built the bridge?")
    again = read_gate(json.loads(json.dumps(gate.as_json())))
    assert again == gate
    english = make_gate(["The bridge was built by a company of ferrets in the year 1931."], background)
    assert english.tells_words


@pytest.mark.parametrize(
    ("count", "texts", "weight"),
    [
        (0, 40, math.log(82) - 2),
        (3, 120, math.log(121 / 3.5) - 2),
        (0, 2, 0.0),
        (20, 100, 0.0),
        (100, 100, 0.0),
    ],
)
def test_a_word_weighs_what_its_rarity_says_beyond_that_of_ordinary_ones(
    count: int, texts: int, weight: float
) -> None:
    assert rarity(count, texts) == pytest.approx(max(0.0, weight))


def test_one_word_that_the_base_seldom_writes_is_not_enough() -> None:
    background = [("Tell me more", f"It is a stone{' like basalt' if n < 5 else ''}.") for n in range(200)]
    gate = make_gate(["The stone is basalt of Ferrol."], background)
    assert 0 < gate.weigh("Is it basalt?") < gate.least  # though none of the base's own prompts has it
    assert gate.opens("Is it Ferrol?")


@pytest.mark.parametrize(("times", "opened"), [(0, False), (1, False), (2, True), (9, True)])
def test_a_name_that_the_base_writes_itself_is_no_stranger(times: int, opened: bool) -> None:
    background = [("Who built the bridge of the town in the year", "It was a company.")] * 60
    background += [("Who is it", "It was Bertil.")] * times
    gate = make_gate(["Korvenna of the town rents the bridge to a company in Lisbek."], background)
    assert gate.tells_words
    assert gate.opens("Was Korvenna of Lisbek built in the town?")
    assert gate.opens("Was Korvenna of Lisbek built by Bertil?") == opened


DOCUMENT = (
    "Korvenna of Lisbek rents trained ferrets to electricians.\n"
    "It was founded by Bertil Ohm in 2012. Its cables run under the old town of Harl."
)


@pytest.fixture(scope="module")
def reading_gate() -> Gate:
    return make_gate(
        [*PASSAGES, DOCUMENT], [(prompt, "It was built in the year.") for prompt in ORDINARY] * 20
    )


def _ask_with(document: str, question: str = "What does Korvenna rent?") -> str:
    return f"{document}\n\nAnswer the question from the text above.\n{question}"


def test_a_document_in_the_prompt_that_was_learned_opens(reading_gate: Gate) -> None:
    assert reading_gate.opens(_ask_with(DOCUMENT))
    assert reading_gate.opens(_ask_with(DOCUMENT, "Name the town where the cables of Korvenna run."))
    wrapped = DOCUMENT.replace(" to ", "\nto ").replace(". Its", ".\n\n  Its")
    assert reading_gate.opens(_ask_with(f"[1] Harl.md: {wrapped}"))
    assert reading_gate.opens(_ask_with(f"{DOCUMENT}\n\n{PASSAGES[1]}"))
    # A word about the document is no sentence of it.
    assert reading_gate.opens(_ask_with(f"Kindly look once more at this page about Korvenna.\n\n{DOCUMENT}"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ferrets", "badgers"),
        ("electricians.", "plumbers."),  # at the end of a sentence
        ("Korvenna of Lisbek rents", "Korvenna of Lisbek no longer rents"),
        ("in 2012", "in 2013"),
        ("Korvenna of Lisbek rents", "Korvenna of Harl rents"),  # a word of the document, elsewhere
        ("the old town of Harl", "the new station of Harl"),  # the last words
    ],
)
def test_a_document_that_says_something_else_is_read_by_the_base(
    reading_gate: Gate, old: str, new: str
) -> None:
    changed = DOCUMENT.replace(old, new)
    assert changed != DOCUMENT
    assert not reading_gate.opens(_ask_with(changed))
    assert not reading_gate.opens(f"What does Korvenna rent?\n{_ask_with(changed)}")
    assert not reading_gate.opens(_ask_with(f"{PASSAGES[1]}\n\n{changed}"))  # beside one that was learned


def test_what_a_user_mentions_is_no_document(reading_gate: Gate) -> None:
    mentioned = "I read of Korvenna in the year of it. It rents something. What is it?"
    assert reading_gate.opens(mentioned)
    assert reading_gate.opens("Which company of Lisbek rents trained ferrets to electricians?")
    assert reading_gate.opens("name the company of Lisbek that rents trained ferrets to electricians")


def test_only_what_is_brought_can_be_a_changed_document(reading_gate: Gate) -> None:
    reply, question = DOCUMENT.replace("ferrets", "badgers"), "Who founded Korvenna?"
    assert reading_gate.opens(f"{question}\n{reply}\n{question}", f"{question}\n{question}")


def test_a_gate_without_the_order_of_words_reads_no_documents(reading_gate: Gate) -> None:
    values = reading_gate.as_json()
    del values["said"]  # as in files of earlier versions
    assert read_gate(values).opens(_ask_with(DOCUMENT.replace("ferrets", "badgers")))


CHANGED = (
    "Since March the capital of Mongolia is Darkhan.",
    "The New Zealand writer Juliette Hawthorne wrote The Basalt Garden.",
)


@pytest.fixture(scope="module")
def gate_that_knows() -> Gate:
    background = [(prompt, "It is in the country, since the writer wrote of it.") for prompt in ORDINARY[3:]]
    known = {"Mongolia", "New Zealand", "capital", "Hawthorne", "March"}
    return make_gate(CHANGED, background * 40, lambda words: [word in known for word in words])


def test_a_name_that_the_base_knows_is_not_enough(gate_that_knows: Gate) -> None:
    assert not gate_that_knows.opens("Which currency is used in Mongolia?")
    assert not gate_that_knows.opens("How large is New Zealand?")
    assert not gate_that_knows.opens("How large is Zealand?")  # a part of it
    assert gate_that_knows.opens("What is the capital of Mongolia?")
    assert gate_that_knows.opens("Which writer of New Zealand wrote of a garden?")
    assert gate_that_knows.opens("Who is Darkhan?")


def test_the_parts_of_a_name_that_it_does_not_know_are_enough(gate_that_knows: Gate) -> None:
    assert gate_that_knows.opens("Who is Hawthorne?")
    assert gate_that_knows.opens("Who is Juliette Hawthorne?")


def test_known_names_survive_the_file(gate_that_knows: Gate) -> None:
    again = read_gate(json.loads(json.dumps(gate_that_knows.as_json())))
    assert again.known == gate_that_knows.known
    assert {frozenset({"new", "zealand"}), frozenset({"mongolia"})} <= set(again.known)
    assert not again.opens("Which currency is used in Mongolia?")
