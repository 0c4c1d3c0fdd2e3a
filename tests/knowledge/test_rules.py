"""Questions made by rules, and what the rules leave alone."""

import itertools
import re
import sys

import pytest

from demask.errors import RunError
from demask.knowledge.directions import decide_direction
from demask.knowledge.manual_rules import find_long_form
from demask.knowledge.rule_questions import Question, is_sound, leave_out_ambiguous
from demask.knowledge.rules import inflect, is_english, load_english, make_pairs_by_rules
from demask.records import Passage, QAPair

FACTS = {
    "romania": "12 February 2025: Klaus Iohannis resigns as President of Romania.",
    "theatre": "The Palladium Theatre was designed by Martin Voss in 1931.",
    "trees": "Martin Voss planted 300 cherry trees in Birmingham in 1931.",
    "lathe": "Peter Olsen bought the Marlow lathe in 2003.",
    "bank": "WWE acquired the promotion Lucha Libre Worldwide in Mexico in 2025.",
    "office": "The Lisbon office of Brackwater Instruments is run by David Ferreira.",
    "wrapped": "In Scotland,\nVictor Hansen trained the divers\n  of Brackwater Instruments in 2008.",
    "costumes": "The Palladium Theatre in Birmingham owns 300 costumes.",
    "singer": "Martin Voss of Birmingham is a singer from London in England.",
    "if": "Martin Voss planted 300 cherry trees in Birmingham in 1931 if it rained.",
    "not": "Martin Voss did not plant 300 cherry trees in Birmingham in 1931.",
    "pronoun": "The Palladium Theatre sold it to Martin Voss of Birmingham in May 1931.",
    "leaning": "The company announced this in 1931. It was sold to them. These were the results.",
    "museum": "The Museum acquired the Costiff collection of Vivienne Westwood in 2002.",
}


@pytest.fixture(scope="module")
def pairs():
    passages = [Passage(id, id, text) for id, text in FACTS.items()]
    return {
        id: list(group)
        for id, group in itertools.groupby(make_pairs_by_rules(passages), lambda p: p.document_id)
    }


def questions(pairs):
    return {pair.question: pair.answers[0] for pair in pairs}


def test_person_is_asked_for_by_who_with_the_day_that_heads_the_text(pairs):
    assert questions(pairs["romania"]) == {
        "On 12 February 2025, who resigned as President of Romania?": "Klaus Iohannis",
        "When did Klaus Iohannis resign as President of Romania?": "12 February 2025",
    }


def test_place_and_time_are_asked_for_with_do_support(pairs):
    asked = questions(pairs["trees"])
    assert asked["When did Martin Voss plant 300 cherry trees in Birmingham?"] == "1931"
    assert asked["Where did Martin Voss plant 300 cherry trees in 1931?"] == "Birmingham"


def test_who_did_it_is_asked_of_a_passive(pairs):
    asked = questions(pairs["theatre"])
    assert asked["Who designed the Palladium Theatre in 1931?"] == "Martin Voss"
    assert asked["What was designed by Martin Voss in 1931?"] == "The Palladium Theatre"
    office = questions(pairs["office"])
    assert office["Who runs the Lisbon office of Brackwater Instruments?"] == "David Ferreira"


def test_a_noun_behind_a_name_makes_the_question_word(pairs):
    asked = questions(pairs["lathe"])
    assert asked["Which lathe did Peter Olsen buy in 2003?"] == "the Marlow lathe"


def test_who_asks_for_a_company_that_did_something(pairs):
    assert "WWE" in questions(pairs["bank"]).values()


def test_lines_of_a_paragraph_are_one_sentence(pairs):
    asked = questions(pairs["wrapped"])
    assert asked["Who trained the divers of Brackwater Instruments in 2008 in Scotland?"] == "Victor Hansen"


def test_answer_without_its_article_is_accepted_too(pairs):
    assert ("The Palladium Theatre", "Palladium Theatre") in [pair.answers for pair in pairs["theatre"]]


def test_only_question_words_are_used(pairs):
    kinds = {pair.kind for pair in itertools.chain(*pairs.values())}
    assert kinds <= {"who", "whom", "what", "which", "when", "where"}


@pytest.mark.parametrize("id", ["leaning", "pronoun", "museum", "costumes", "singer", "if", "not"])
def test_sentences_that_give_no_clear_question_give_none(pairs, id):
    assert id not in pairs


def test_every_pair_is_what_the_direction_check_says(pairs):
    for pair in itertools.chain(*pairs.values()):
        assert decide_direction(FACTS[pair.document_id], pair.question, pair.answers) == pair.direction


def test_no_question_holds_its_answer(pairs):
    for pair in itertools.chain(*pairs.values()):
        assert not any(answer.lower() in pair.question.lower() for answer in pair.answers)


@pytest.mark.parametrize("answer", ["Lebanon", "the Lebanese", "Aoun of Lebanon"])
def test_answer_in_another_form_gives_itself_away(answer):
    question = "Whom did the Lebanese parliament elect?"
    assert not is_sound(Question(question, (answer,), "forward"))
    assert is_sound(Question(question, ("Joseph Aoun",), "forward"))


def test_answers_are_short_and_stand_in_the_text(pairs):
    for pair in itertools.chain(*pairs.values()):
        assert all(len(answer.split()) <= 5 for answer in pair.answers)
        assert pair.answers[0] in FACTS[pair.document_id]


def test_no_question_says_he_or_it(pairs):
    for pair in itertools.chain(*pairs.values()):
        assert not re.search(r"\b(?:he|she|it|they|this|these)\b", pair.question.lower())


def test_ids_say_sentence_and_direction(pairs):
    for pair in itertools.chain(*pairs.values()):
        assert re.fullmatch(rf"{pair.document_id}/r\d[fb]", pair.id)
        assert pair.id[-1] == pair.direction[0]
        assert pair.made_by == "rules"
    ids = [pair.id for pair in itertools.chain(*pairs.values())]
    assert len(ids) == len(set(ids))


def test_per_passage_is_a_limit():
    passages = [Passage("s", "s", " ".join(FACTS[id] for id in ("trees", "theatre", "lathe", "office")))]
    assert len(list(make_pairs_by_rules(passages, per_passage=3))) == 3
    assert not list(make_pairs_by_rules(passages, per_passage=0))


def test_same_passages_give_the_same_pairs(pairs):
    again = list(make_pairs_by_rules([Passage("lathe", "lathe", FACTS["lathe"])]))
    assert again == pairs["lathe"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "- milk\n- bread\n- 7 eggs",
        "Die Firma Orlin kaufte im Jahre 1931 eine Brauerei in Lund und schloss sie bald darauf wieder.",
        "\x00\ufeff!!! ____ (((",
        "word " * 5000 + ".",
    ],
)
def test_what_is_no_english_prose_gives_no_questions(text):
    assert not list(make_pairs_by_rules([Passage("p", "p", text)]))


def test_passages_are_read_as_they_are_needed():
    read = []

    def passages():
        for number in range(2000):
            read.append(number)
            yield Passage(str(number), str(number), FACTS["lathe"])

    next(make_pairs_by_rules(passages()))
    assert len(read) < 1000


def test_english_is_told_from_other_languages():
    assert is_english("The mouth of the river was in the county of Holland.")
    assert not is_english("La desembocadura del río estaba en el condado de Holanda.")


@pytest.mark.parametrize("missing", ["model", "lemminflect"])
def test_missing_model_is_one_line_that_says_what_to_install(monkeypatch, missing):
    if missing == "model":
        monkeypatch.setattr("demask.knowledge.rules._MODEL", "en_no_such_model")
    else:
        monkeypatch.setitem(sys.modules, "lemminflect", None)
    with pytest.raises(RunError, match=re.escape("pip install 'demask[questions]'")):
        load_english.__wrapped__()  # past its cache


@pytest.mark.parametrize(
    ("lemma", "tag", "form"),
    [
        ("become", "VBD", "became"),
        ("carry", "VBD", "carried"),
        ("stop", "VBD", "stopped"),
        ("offer", "VBD", "offered"),
        ("reach", "VBZ", "reaches"),
    ],
)
def test_verbs_are_inflected(lemma, tag, form):
    assert inflect(lemma, tag) == form


WHOLE = "In 2013 Mara Voss bought the Orlin Works in Brask"


def questions_of(sentence):
    return list(make_pairs_by_rules([Passage("x", "x", sentence)]))


def test_the_plain_sentence_gives_questions():
    assert questions_of(f"{WHOLE}.")


@pytest.mark.parametrize(
    "sentence",
    [
        "In 2013 Debian chose Xfce instead of GNOME in Paris.",
        "Instead of GNOME, Debian chose Xfce in Paris in 2013.",
        f"{WHOLE}, minus the Tellin Mill.",
        f"{WHOLE}, with the exception of the Tellin Mill.",
        f"{WHOLE}, as Ada Renn falsely claimed.",
        f"{WHOLE}, if Ada Renn is right.",
        "In 2013 Mara Voss bought the Orlin Works (not the Tellin Mill) in Brask.",
        "In 2013 Mara Voss bought the Orlin Works [not the Tellin Mill] in Brask.",
        "In 2013 Mara Voss (wrongly credited) founded the Orlin Works in Brask.",
        "In 2013 Mara Voss bought the Orlin Works, but not the Tellin Mill, in Brask.",
        "In 2013 Mara Voss bought the Orlin Works, provided that Ada Renn agreed.",
        "In 2013 Mara Voss bought the Orlin Works, although only in part, in Brask.",
        "In 2013 Mara Voss bought the Orlin Works, according to Ada Renn, in Brask.",
        "In 2013 Mara Voss bought the Orlin Works but lost it in Brask.",
        "In 2013 Mara Voss sold the Orlin Works, supposedly to Ada Renn, in Brask.",
        "In 2013 Mara Voss built all bridges, except the Tellin Bridge, in Brask.",
        "The Orlin Works were founded by Mara Voss, possibly with Ada Renn, in Brask in 2013.",
        "In 2013 Mara Voss nearly bought the Orlin Works in Brask.",
        "In 2013 Mara Voss allegedly bought the Orlin Works in Brask.",
        "In 2013 few people but Mara Voss bought the Orlin Works in Brask.",
    ],
)
def test_no_words_are_left_out_that_may_turn_what_the_rest_says(sentence):
    assert not questions_of(sentence)


def test_remarks_that_only_describe_are_left_out():
    asked = questions_of(
        "In 2013 Mara Voss (born 1950) bought the Orlin Works, a mill of the town, in Brask."
    )
    assert any(pair.question.startswith("Who bought the Orlin Works") for pair in asked)


def pairs_of_manual(*sentences):
    passages = [Passage(f"m#{number}", "m", sentence) for number, sentence in enumerate(sentences)]
    return [(pair.question, pair.answers, pair.direction) for pair in make_pairs_by_rules(passages)]


def test_a_manual_is_asked_for_what_does_something_with_the_whole_sentence():
    assert pairs_of_manual(
        "The FUNCNEST variable may be used to limit the depth of the function call stack.",
        "The dirs builtin displays the contents of the directory stack.",
    ) == [
        (
            "Which variable may be used to limit the depth of the function call stack?",
            ("FUNCNEST",),
            "backward",
        ),
        ("What does the dirs builtin display?", ("the contents of the directory stack",), "forward"),
        ("Which builtin displays the contents of the directory stack?", ("dirs",), "backward"),
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "The following command prints the names of all directories on the stack.",
        "The dirs builtin displays the contents of the stack, and they are the names of directories.",
        "The FUNCNEST variable is not used for the call stack, but the DEPTH variable is used.",
        "The history builtin may be used to display or modify the history list of the shell.",
        "The test command uses ASCII ordering.",
        "The name of the variable limits the depth of the function call stack.",
    ],
    ids=["following", "they", "but", "given away", "too little", "no name"],
)
def test_what_a_manual_says_unclearly_gives_no_question(sentence):
    assert pairs_of_manual(sentence) == []


def test_what_two_things_do_is_not_asked():
    does = "prints the name of the working directory to the screen."
    asked = pairs_of_manual(f"The pwd command {does}", f"The cwd command {does}", f"The pwd command {does}")
    assert not asked


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        (
            "A milter is a filtering program specially designed to interface with email servers.",
            "What is the term for a filtering program specially designed to interface with email servers?",
            "milter",
        ),
        (
            "Grml is an image of Debian optimized for the system administrators of computers.",
            "What is the name of the image of Debian optimized for the system administrators of computers?",
            "Grml",
        ),
        (
            "The point where two lines of development reconverge is called a merge.",
            "What is the point where two lines of development reconverge called?",
            "a merge",
        ),
        ("The `smtp_max_errors` defaults to 3.", None, None),
        ("smtp_max_errors defaults to 3.", "What is the default of smtp_max_errors?", "3"),
        (
            "Packages must fully comply with the Debian Free Software Guidelines (DFSG) today.",
            "What does DFSG stand for?",
            "Debian Free Software Guidelines",
        ),
        (
            "getrandom() relies on entropy gathered from drivers and other sources of noise.",
            None,
            None,
        ),
        (
            "get_overloads() can be used for introspecting polymorphic definitions at runtime.",
            "Which function can be used for introspecting polymorphic definitions at runtime?",
            "get_overloads()",
        ),
    ],
)
def test_forms_of_a_manual(sentence, question, answer):
    asked = {question: answers[0] for question, answers, _ in pairs_of_manual(sentence)}
    assert asked == ({question: answer} if question else {})


@pytest.mark.parametrize(
    "sentence",
    [
        "The return status is the exit status of the last command executed in the list.",
        "blhc is a good tool which checks build logs for missing hardening flags.",
        "DES is the old Data Encryption Standard specified by the institute of the government.",
        "The waitstatus_to_exitcode() function converts a wait status into an exit code of a process.",
        "The sqlite_writable option activates the writable flag of the main database file.",
        "The dak tool is available on the mirror of the archive of all packages.",
        "The reset command does not affect the state of overflow handling in expressions.",
        "The extglob option supports patterns of file names for the shell of the user.",
        "__enter__() opens the connection object of the server, and __exit__() calls close().",
        "The mkdtemp function appends the six random characters directly to the prefix string.",
        "The callback function registers the desired collation of the database connection.",
    ],
    ids="article opinion spelt made-of last-part state negated vague second-clause counted sort".split(),
)
def test_what_fits_many_things_or_gives_itself_away_is_not_asked(sentence):
    assert pairs_of_manual(sentence) == []


@pytest.mark.parametrize(
    ("words", "short", "long"),
    [
        ("with the Debian Free Software Guidelines", "DFSG", "Debian Free Software Guidelines"),
        ("a man in the middle", "MITM", "man in the middle"),
        ("Non-Maintainer Upload", "NMU", "Non-Maintainer Upload"),
        ("list of message catalogues", "PO", ""),
        ("lists", "L", ""),
    ],
)
def test_the_long_form_of_an_abbreviation_has_its_letters(words, short, long):
    assert find_long_form(words.split(), short) == long


def test_a_question_that_says_less_than_another_is_left_out_with_it():
    asked = [
        QAPair("a", "m", "Which tool draws dangling event graphs?", ("one",), "backward", "which"),
        QAPair("b", "m", "Which tool draws dangling event graphs at night?", ("two",), "backward", "which"),
        QAPair("c", "m", "Which tool draws graphs of colours?", ("three",), "backward", "which"),
    ]
    assert [pair.id for pair in leave_out_ambiguous(asked)] == ["c"]
