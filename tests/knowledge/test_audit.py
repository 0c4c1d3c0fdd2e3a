"""The audit of QA pairs: planted faults are found, and nothing else."""

import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

import pytest

from demask.benchmarks.sets import Benchmark, data_folder, load_wiki_events
from demask.errors import DataError
from demask.knowledge.audit import audit_as_json, audit_pairs, split_flagged
from demask.knowledge.audit_rules import SEVERITIES, find_opening, make_plain, stands_in
from demask.records import Direction, Document, QAPair
from demask.terminal import render_audit

ORLIN = Document("orlin", "The firm Orlin was founded in 1987 by Mara Voss. It burns dried peel.")
FOUNDER = QAPair("founder", "orlin", "Which person founded Orlin in 1987?", ("Mara Voss",), "forward")
FIRM = QAPair("firm", "orlin", "Which firm did Mara Voss found?", ("Orlin",), "backward")


def rows(name: str) -> list[dict[str, Any]]:
    text = files("demask.quickstart").joinpath(name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


DOCUMENTS = [Document(**row) for row in rows("documents.jsonl")]
PAIRS = [QAPair(**{**row, "answers": tuple(row["answers"])}) for row in rows("qa_pairs.jsonl")]


def changed(pair: QAPair, **values: Any) -> QAPair:
    return dataclasses.replace(pair, **values)


def found(
    pairs: Sequence[QAPair], documents: Sequence[Document] = (ORLIN,), **predictions: dict[str, bool]
) -> set[tuple[str, str]]:
    return {
        (finding.pair_id, finding.kind) for finding in audit_pairs(pairs, documents, **predictions).findings
    }


def ask(
    question: str, *answers: str, id: str = "q", document: str = "orlin", way: Direction = "forward"
) -> QAPair:
    return QAPair(id, document, question, answers or ("Mara Voss",), way)


def kinds(pair: QAPair, *documents: Document) -> set[str]:
    return {kind for _, kind in found([pair], documents or (ORLIN,))} - {
        "direction-unclear",
        "wrong-direction",
    }


# A set that is clean, and one fault of each kind.


def test_the_bundled_questions_are_clean() -> None:
    assert audit_pairs(PAIRS, DOCUMENTS).findings == ()


PLANTED = {
    "leak": ask("Is it church organs that Orla Vashtik repairs?", "church organs", document="vashtik"),
    "duplicate": ask(
        "Which camping stove can be fed with dried orange peels?",
        "Quillomar",
        document="quillomar",
        way="backward",
    ),
    "answer-missing": ask("What does Korvenna lend to plumbers?", "tame weasels", document="korvenna"),
    "guessable": ask("Of what is every street in Pellowick?", "oyster shells", document="pellowick"),
    "unanswerable": ask("Which gulf saw a bathtub?", "Gulf of Semmery", document="vashtik", way="backward"),
    "ambiguous": ask("Which instrument measures snow?", "vornimeter", document="vornimeter", way="backward"),
    "wrong-direction": ask("Who rents trained ferrets?", "Korvenna", document="korvenna", way="forward"),
    "answer-long": ask(
        "What do festival bakers race?", "loaves of rye bread down a frozen canal", document="hollowglim"
    ),
}
PLANTED = {kind: changed(pair, id=kind) for kind, pair in PLANTED.items()}
SNOWGAUGE = Document("snowgauge", "The snowgauge is an instrument that measures wet snow.")


def test_of_planted_faults_exactly_these_are_found() -> None:
    pairs = [*PAIRS, *PLANTED.values()]
    answered = {pair.id: pair.id == "guessable" for pair in pairs}
    readable = {pair.id: pair.id != "unanswerable" for pair in pairs}
    everything = found(pairs, [*DOCUMENTS, SNOWGAUGE], closed_book=answered, open_book=readable)
    assert everything == {(kind, kind) for kind in PLANTED}


# Leaks.


@pytest.mark.parametrize(
    "question",
    [
        "Did Mara Voss found Orlin in 1987?",
        "What was MARA VOSS's firm that was founded in 1987?",
        "Which Voss, Mara by name, founded Orlin in 1987?",
        "Which Voss founded Orlin in 1987?",
    ],
)
def test_a_question_that_gives_its_answer_away_is_a_leak(question: str) -> None:
    assert kinds(ask(question)) == {"leak"}


def test_a_name_that_the_document_uses_elsewhere_is_no_leak() -> None:
    family = Document("orlin", "Orlin is a firm that Mara Voss founded. Her brother is Ilja Voss.")
    assert kinds(ask("Who is the brother of Mara Voss?", "Ilja Voss"), family) == set()


def test_part_of_an_answer_is_no_leak() -> None:
    text = Document("orlin", "Orlin holds the Newcastle Mela in August and bought the Apollo 20.")
    assert kinds(ask("What does Orlin hold in Newcastle?", "Newcastle Mela"), text) == set()
    assert kinds(ask("Which Apollo did Orlin buy?", "Apollo 20"), text) == set()


def test_the_last_word_of_a_description_is_no_leak() -> None:
    text = Document("orlin", "Orlin is a village near Voss.")
    assert kinds(ask("What is Orlin close to Voss?", "a village near Voss"), text) == set()


def test_a_function_word_is_no_leak_of_a_name_spelt_alike() -> None:
    text = Document("orlin", "Orlin was founded in May and inspected by the WHO.")
    assert kinds(ask("When may one have founded Orlin?", "May"), text) == set()
    assert kinds(ask("Who inspected Orlin?", "WHO"), text) == set()
    assert kinds(ask("Was Orlin, says the WHO, inspected?", "WHO"), text) == {"leak"}


def test_any_accepted_answer_may_leak() -> None:
    assert kinds(ask("Which Mara founded Orlin?", "Mara Voss", "Mara")) == {"leak"}


# Answers that do not stand in the document.


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Russia", "They left Russia's grid."),
        ("Belize", "In the Belizean election."),
        ("same sex marriage", "First to legalize same-sex marriage."),
        ("1987", "It ran 1987–1990."),
        ("U.S.", "In the US stock market."),
        ("1750", "It cut 1,750 jobs."),
        ("the organs", "She repairs an organ."),
        ("Cotofenești", "Helmet of Cotofenes\u0326ti"),
        ("東京", "首都は東京です。"),
        ("โมรา", "โรงงานก่อตั้งโดยโมรา"),
        ("25", "It has 25.0 rooms."),
        ("5 km", "It is 5km away."),
    ],
)
def test_an_answer_stands_in_a_text_however_it_is_written(answer: str, text: str) -> None:
    assert stands_in(answer, make_plain(text))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("5", "It has 25 rooms."),
        ("5", "It has 1.5 rooms, at -5 degrees."),
        ("1230", "It left at 12:30."),
        ("C", "It is written in C++."),
        ("Niger", "It is in Nigeria."),
        ("new", "This was news."),
        ("Voss Mara", "Mara Voss founded it."),
        ("Hughes", "Hugh founded it."),
        ("?", "Who founded it?"),
        ("", "Some text."),
    ],
)
def test_an_answer_does_not_stand_in_a_text_that_says_something_else(answer: str, text: str) -> None:
    assert not stands_in(answer, make_plain(text))


def test_one_accepted_answer_in_the_document_is_enough() -> None:
    assert kinds(ask("Who founded Orlin?", "M. Voss", "Mara Voss")) == set()
    assert kinds(ask("Who founded Orlin?", "M. Voss", "Voss, M.")) == {"answer-missing"}


def test_an_answer_of_five_words_is_not_long() -> None:
    text = Document("orlin", "Orlin burns one two three four five six.")
    assert kinds(ask("What does Orlin burn?", "one two three four five"), text) == set()
    assert kinds(ask("What does Orlin burn?", "one two three four five six"), text) == {"answer-long"}
    assert kinds(ask("What does Orlin burn?", "one two three four five six", "one two"), text) == set()


# What models say.


def test_pairs_that_no_model_was_asked_are_not_judged() -> None:
    assert found([FOUNDER, FIRM], closed_book={}, open_book={}) == set()


def test_predictions_are_read_by_the_id_of_the_pair() -> None:
    right = {"founder": True, "firm": False}
    assert found([FOUNDER, FIRM], closed_book=right) == {("founder", "guessable")}
    assert found([FOUNDER, FIRM], open_book=right) == {("firm", "unanswerable")}


# Guesses without knowledge.


def countries(*answers: str) -> tuple[list[QAPair], list[Document]]:
    documents = [Document(f"d{n}", f"Firm{n} is based in {answer}.") for n, answer in enumerate(answers)]
    pairs = [
        ask(f"Which country is Firm{n} based in?", answer, id=f"q{n}", document=f"d{n}")
        for n, answer in enumerate(answers)
    ]
    return pairs, documents


def test_the_answer_that_many_other_documents_have_is_guessable() -> None:
    pairs, documents = countries("Peru", "Chad", "Peru", "Mali", "Peru")
    assert found(pairs, documents) == {(id, "guessable") for id in ("q0", "q2", "q4")}


def test_an_answer_that_two_documents_have_is_not_guessable() -> None:
    pairs, documents = countries("Peru", "Chad", "Peru", "Mali")
    assert found(pairs, documents) == set()


def test_a_majority_of_less_than_a_fifth_of_the_others_is_luck() -> None:
    others = [f"Land{letter}" for letter in "abcdefghi"]
    assert len(found(*countries("Peru", "Peru", "Peru", *others[:8]))) == 3
    assert found(*countries("Peru", "Peru", "Peru", *others)) == set()


def test_questions_about_one_document_are_no_majority() -> None:
    questions = ["Who founded Orlin?", "Who burns peel?", "Who sat in the chair in 1987?"]
    pairs = [ask(question, id=f"q{n}") for n, question in enumerate(questions)]
    assert "guessable" not in {kind for _, kind in found(pairs)}


@pytest.mark.parametrize(
    ("question", "opening"),
    [
        ("Which country is it?", "which country"),
        ("In what year was it?", "what year"),
        ("Who founded it?", "who"),
        ("How many are there?", "how many"),
        ("Name the firm.", ""),
    ],
)
def test_questions_are_grouped_by_what_they_ask_for(question: str, opening: str) -> None:
    assert find_opening(question) == opening


# Ambiguous questions.


def test_the_same_question_with_different_answers_is_ambiguous_both_times() -> None:
    other = Document("plome", "Ilja Hale founded it. Mara sings.")
    first = Document("orlin", "Mara Voss founded it. Ilja sings.")
    pairs = [ask("Who founded it?"), ask("Who founded  it", "Ilja Hale", id="r", document="plome")]
    findings = [f for f in audit_pairs(pairs, [first, other]).findings if f.kind == "ambiguous"]
    assert [(f.pair_id, f.other_id) for f in findings] == [("q", "r"), ("r", "q")]


def test_a_question_that_another_document_fits_is_ambiguous() -> None:
    other = Document("rival", "Ilja Hale, it is said, founded Orlin in 1987.")
    assert kinds(FOUNDER, ORLIN, other) == {"ambiguous"}


@pytest.mark.parametrize(
    "text",
    [
        "In 1987 the firm Orlin was founded by Mara Voss, they say.",  # the same fact
        "Orlin is the moon of Plome. It was founded in 1987.",  # in two sentences
        "Ilja Hale founded Orlin in 1988.",  # another year
        "Orlin is known in 1987.",  # what was asked about it is not told
    ],
)
def test_a_document_that_only_shares_words_does_not_make_a_question_ambiguous(text: str) -> None:
    assert kinds(FOUNDER, ORLIN, Document("rival", text)) == set()


@pytest.mark.parametrize(
    "question",
    [
        "Who founded the firm Orlin in 1978?",  # the document has another year
        "Who founded Orlin after long years of travelling abroad?",  # hardly a word is in the document
        "Who founded Orlin1234?",
    ],
)
def test_a_question_that_its_own_document_hardly_fits_is_not_called_ambiguous(question: str) -> None:
    own = Document("orlin", "The firm Orlin was founded in 1987 by Mara Voss, who founded Orlin1234.")
    other = Document("rival", "Ilja Hale founded the firm Orlin and Orlin1239.")
    assert kinds(ask(question), own, other) == set()


def test_of_several_documents_that_fit_a_question_one_is_told() -> None:
    text = "Ilja Hale, that person, founded Orlin in 1987."
    rivals = [Document("first", text), Document("second", text)]
    (finding,) = audit_pairs([FOUNDER], [ORLIN, *rivals]).findings
    assert 'document "first" fits' in finding.explanation


def test_a_document_about_the_same_names_does_not_make_a_question_ambiguous() -> None:
    first = Document("orlin", "The Gullimande carries wedding cakes to Port Semmery.")
    other = Document("rival", "The Gullimande was built in Port Semmery.")
    asked = ask("What is loaded on the Gullimande for Port Semmery?", "wedding cakes")
    assert kinds(asked, first, other) == set()


# Duplicates, and questions that state what others ask.


def test_of_duplicates_the_later_is_found() -> None:
    later = ask("In 1987, which person founded Orlin?", id="later")
    finding = [f for f in audit_pairs([FOUNDER, later], [ORLIN]).findings if f.kind == "duplicate"]
    assert [(f.pair_id, f.other_id) for f in finding] == [("later", "founder")]


def test_questions_about_different_facts_with_one_answer_are_no_duplicates() -> None:
    pairs = [
        ask("What is the birth city of Adrian Hadley Andrews?", "Charlotte"),
        ask("In which city did Adrian Hadley Andrews work?", "Charlotte", id="r"),
    ]
    text = Document(
        "orlin", "Adrian Hadley Andrews was born in the city of Charlotte. The work was in Charlotte."
    )
    assert "duplicate" not in {kind for _, kind in found(pairs, [text])}


def test_the_same_question_and_answer_in_another_document_is_a_duplicate() -> None:
    again = Document("again", ORLIN.text)
    assert ("r", "duplicate") in found(
        [FOUNDER, changed(FOUNDER, id="r", document_id="again")], [ORLIN, again]
    )


def test_a_duplicate_of_a_flagged_pair_stays() -> None:
    pairs = [FOUNDER, changed(FOUNDER, id="r", question="In 1987, which person founded Orlin?")]
    assert found(pairs, closed_book={"founder": True}) == {("founder", "guessable")}


def test_a_question_and_its_reverse_are_clean() -> None:
    assert found([FOUNDER, FIRM]) == set()


# The whole.


def test_every_explanation_is_a_line_that_starts_with_the_id() -> None:
    audit = audit_pairs([*PAIRS, *PLANTED.values()], [*DOCUMENTS, SNOWGAUGE])
    assert audit.findings
    for finding in audit.findings:
        assert finding.explanation.startswith(f"{finding.pair_id}: ")
        assert "\n" not in finding.explanation
    assert audit.findings[0].explanation == 'leak: the question names its own answer "church organs"'


def test_findings_come_in_the_order_of_the_pairs() -> None:
    pairs = [ask("Is Orlin by Mara Voss?", id="b"), ask("Who burns hay?", "Ilja Hale", id="a")]
    assert [finding.pair_id for finding in audit_pairs(pairs, [ORLIN]).findings][::-1][0] == "a"
    assert audit_pairs(pairs, [ORLIN]).findings[0].pair_id == "b"


def test_flagged_pairs_are_dropped_and_noted_ones_kept() -> None:
    pairs = [*PAIRS, PLANTED["answer-long"], PLANTED["leak"]]
    kept, rejects = split_flagged(pairs, audit_pairs(pairs, DOCUMENTS))
    assert list(kept) == pairs[:-1]
    (row,) = rejects
    assert {key: row[key] for key in ("id", "question", "answers")} == {
        "id": "leak",
        "question": PLANTED["leak"].question,
        "answers": ("church organs",),
    }
    assert [reason["kind"] for reason in row["reasons"]] == ["leak"]
    assert json.loads(json.dumps(row))["reasons"][0]["explanation"].startswith("leak: the question")


def test_coverage_says_what_is_asked_about_and_what_is_not() -> None:
    spare = Document("spare", "Nobody asks about this.")
    coverage = audit_pairs(
        [FOUNDER, FIRM], [spare, Document("orlin", f"{ORLIN.text} It makes heat.")]
    ).coverage
    (orlin,) = coverage.documents
    assert (orlin.forward, orlin.backward, orlin.sentences) == (1, 1, 3)
    assert orlin.uncovered == ("It burns dried peel.", "It makes heat.")
    assert coverage.without_pairs == ("spare",)
    assert coverage.asked_sentences == pytest.approx(1 / 3)
    assert coverage.directions == {"forward": 1, "backward": 1}


def test_a_pair_without_a_word_of_the_document_covers_nothing() -> None:
    (orlin,) = audit_pairs([ask("Why so?", "nothing known")], [ORLIN]).coverage.documents
    assert len(orlin.uncovered) == orlin.sentences == 2


def test_a_backward_question_covers_the_sentence_of_its_cues() -> None:
    burner = QAPair("q", "orlin", "Which firm burns dried peel?", ("Orlin",), "backward")
    (orlin,) = audit_pairs([burner], [ORLIN]).coverage.documents
    assert orlin.uncovered == ("The firm Orlin was founded in 1987 by Mara Voss.",)


def test_a_forward_question_covers_the_sentence_of_its_answer() -> None:
    text = Document("orlin", "The firm Orlin of Mara Voss is a firm. It burns dried peel.")
    (orlin,) = audit_pairs(
        [ask("What does the firm Orlin of Mara Voss burn?", "dried peel")], [text]
    ).coverage.documents
    assert orlin.uncovered == ("The firm Orlin of Mara Voss is a firm.",)


def test_the_json_is_plain_and_names_every_kind() -> None:
    audit = audit_pairs([FOUNDER, FIRM], [ORLIN], closed_book={"founder": True})
    values = audit_as_json(audit)
    assert json.loads(json.dumps(values))["findings"] == values["findings"]
    assert values["counts"] == {kind: int(kind == "guessable") for kind in SEVERITIES}
    assert values["findings"] == [
        {
            "pair_id": "founder",
            "kind": "guessable",
            "explanation": 'founder: the base model answers "Mara Voss" without the document',
            "other_id": "",
            "severity": "flag",
        }
    ]
    assert (values["pairs"], values["flagged"]) == (2, 1)
    assert values["checked"] == {"closed_book": True, "open_book": False}
    assert set(values["coverage"]) == {"documents", "without_pairs", "directions", "asked_sentences"}


def test_the_table_leaves_out_what_no_model_was_asked() -> None:
    shown = list(render_audit(audit_pairs([FOUNDER], [ORLIN])).columns[0].cells)
    assert shown[: len(SEVERITIES) - 1] == [kind for kind in SEVERITIES if kind != "unanswerable"]
    asked = render_audit(audit_pairs([FOUNDER], [ORLIN], open_book={"founder": False}))
    assert "unanswerable" in asked.columns[0].cells


def test_documents_are_read_twice_and_none_is_kept_that_is_not_asked_about() -> None:
    reads = []

    class Stream:
        def __iter__(self) -> Iterator[Document]:
            reads.append(1)
            return (Document(f"d{n}", f"Text {n}.") if n else ORLIN for n in range(50))

    assert len(audit_pairs([FOUNDER], Stream()).coverage.without_pairs) == 49
    assert len(reads) == 2


def test_documents_that_can_be_read_only_once_are_refused() -> None:
    with pytest.raises(ValueError, match="only once"):
        audit_pairs([FOUNDER], iter([ORLIN]))


def test_a_pair_about_a_missing_document_is_refused_in_one_line() -> None:
    with pytest.raises(DataError, match=r"QA pair 'q': document_id is 'orlim'.*did you mean 'orlin'\?"):
        audit_pairs([ask("Who?", document="orlim")], [ORLIN])


def test_no_pairs_leave_everything_uncovered() -> None:
    audit = audit_pairs([], [ORLIN])
    assert audit.findings == ()
    assert audit.coverage.without_pairs == ("orlin",)
    assert audit.coverage.asked_sentences is None


# Planted in real questions.


@pytest.fixture(scope="module")
def wiki_events() -> Benchmark:
    try:
        return load_wiki_events(data_folder(), facts=range(40))
    except DataError as error:
        pytest.skip(str(error))


def plant_leak(pair: QAPair, rng: random.Random) -> QAPair:
    answer, question = pair.answers[0], pair.question.removesuffix("?")
    wordings = (
        f"{question}, namely {answer}?",
        f"Is it {answer.upper()}: {question}?",
        f"{question}, or was it {' and '.join(reversed(answer.split()))}?",
        f"{question}, says {answer}'s own page?",
    )
    return changed(pair, question=rng.choice(wordings))


def plant_duplicate(pair: QAPair, rng: random.Random) -> QAPair:
    first, rest = pair.question.removesuffix("?").split(" ", 1)
    wordings = (
        pair.question.upper(),
        f"Please tell me: {first.lower()} {rest}?",
        f"{first} {rest}, if you know?",
        f"Do you know {first.lower()} {rest}",
        pair.question.replace("2025", "the year 2025"),
    )
    return changed(pair, id=f"{pair.id}-again", question=rng.choice(wordings))


def plant_wrong_answer(pair: QAPair, answers: list[str], benchmark: Benchmark) -> QAPair:
    """Take the first answer, of other facts, that neither the document nor the question holds."""
    text = next(document.text for document in benchmark.documents if document.id == pair.document_id)
    said = f"{text} {pair.question}".lower()
    wrong = next(answer for answer in answers if answer.lower() not in said)
    answers.remove(wrong)
    return changed(pair, answers=(wrong,))


@pytest.mark.parametrize("seed", range(5))
def test_twenty_of_each_fault_planted_in_wiki_events_are_all_found(wiki_events: Benchmark, seed: int) -> None:
    rng = random.Random(seed)
    pairs = list(wiki_events.pairs)
    noticed = {finding.pair_id for finding in audit_pairs(pairs, wiki_events.documents).findings}
    places = rng.sample([n for n, pair in enumerate(pairs) if pair.id not in noticed], 60)
    leaks, wrong, doubled = places[:20], places[20:40], places[40:]
    for place in leaks:
        pairs[place] = plant_leak(pairs[place], rng)
    answers = rng.sample(sorted({pair.answers[0] for pair in pairs}), k=60)
    for place in wrong:
        pairs[place] = plant_wrong_answer(pairs[place], answers, wiki_events)
    expected = {(pairs[place].id, "leak") for place in leaks}
    expected |= {(pairs[place].id, "answer-missing") for place in wrong}
    for place in doubled:
        again = plant_duplicate(pairs[place], rng)
        expected.add((again.id, "duplicate"))
        pairs.append(again)
    audit = audit_pairs(pairs, wiki_events.documents)
    assert expected <= {(finding.pair_id, finding.kind) for finding in audit.findings}
    assert {finding.pair_id for finding in audit.findings} <= noticed | {id for id, _ in expected}
