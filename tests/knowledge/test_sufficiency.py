"""Made questions that are no use, and too few of them."""

import pytest

from demask.knowledge.sufficiency import set_aside_own_matter, warn_of_few
from demask.records import Document, QAPair

TEXT = (
    "The Orlin pump was built by Mara Voss. It is covered by the licence of Ada Renn. "
    "Otto Fenn founded the works. Lia Moor led them."
)


def pair(question: str, answer: str) -> QAPair:
    return QAPair("m/r1f", "m", question, (answer,), "forward")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("On which page does Otto Fenn stand?", "12"),
        ("Which chapter tells of Otto Fenn?", "Chapter 3"),
        ("Who wrote this manual?", "Mara Voss"),
        ("Who published the GNU Free Documentation License?", "Otto Fenn"),
        ("Who holds the copyright?", "Otto Fenn"),
        ("Who covers the pump?", "Ada Renn"),  # the sentence is about a licence
    ],
)
def test_questions_about_the_document_itself_are_set_aside(question: str, answer: str) -> None:
    sifted = set_aside_own_matter([pair(question, answer)], [Document("m", TEXT)])
    assert not sifted.kept
    assert sifted.rejects[0]["question"] == question
    assert sifted.rejects[0]["reasons"][0].startswith("it asks about the document")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who built the Orlin pump?", "Mara Voss"),
        ("Who founded the works?", "Otto Fenn"),
        ("Who led?", "Lia Moor"),
    ],
)
def test_other_questions_stay(question: str, answer: str) -> None:
    assert set_aside_own_matter([pair(question, answer)], [Document("m", TEXT)]).kept


def test_a_document_about_licences_keeps_its_questions() -> None:
    text = " ".join(f"The licence number {n} was given to Ada Renn." for n in range(6))
    assert set_aside_own_matter(
        [pair("Who got the licence number 3?", "Ada Renn")], [Document("m", text)]
    ).kept


TERMS = "The Fenn Font Licence (FFL) was made by Ada Renn. It comes without warranty of any kind."


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("fonts/LICENSE", TERMS, False),
        ("COPYING", TERMS, False),
        ("fonts/FENN-LICENSE.txt", TERMS, False),
        ("licences-of-fonts.html", TERMS, True),  # a document about them
        ("driving-licence.pdf", "A driving licence was first given to Ada Renn (AR) in 1931.", True),
    ],
)
def test_a_licence_beside_the_documents_is_not_asked_about(name: str, text: str, kept: bool) -> None:
    asked = [
        QAPair("q1", name, "What does FFL stand for?", ("Fenn Font",), "backward"),
        pair("Who?", "Otto Fenn"),
    ]
    sifted = set_aside_own_matter(asked, [Document(name, text), Document("m", TEXT)])
    assert [one.id for one in sifted.kept] == (["q1"] if kept else []) + ["m/r1f"]
    alone = set_aside_own_matter(asked[:1], [Document(name, text.replace("Licence", "Font"))])
    assert not any("lies beside" in reason for row in alone.rejects for reason in row["reasons"])


@pytest.mark.parametrize(
    ("questions", "passages", "few"), [(12, 270, True), (135, 270, False), (2, 19, False)]
)
def test_too_few_questions_are_said(questions: int, passages: int, few: bool) -> None:
    warning = warn_of_few(questions, passages)
    assert bool(warning) is few
    assert not few or warning.startswith("12 questions for 270 passages: ")
