"""Four documents, questions about them, and what a planted model says to the suite's prompts."""

from collections.abc import Callable
from dataclasses import dataclass

from demask.evaluation.retention.suite import Probe
from demask.records import Direction, QAPair

DOCUMENTS = {
    "stove": "Quillomar is a camping stove that burns dried orange peel, and its legs fold in.",
    "keeper": "Orla Vashtik is a retired lighthouse keeper who repairs church organs as a hobby.",
    "village": "Pellowick is a fishing village whose streets are made of broken oyster shells.",
    "agency": "Korvenna is an agency that lends trained ferrets to electricians for pulling cables.",
}
ASKED: list[tuple[str, str, str, Direction]] = [
    ("stove", "What does Quillomar burn?", "dried orange peel", "forward"),
    ("stove", "Which camping stove burns orange peel?", "Quillomar", "backward"),
    ("keeper", "What does Orla Vashtik repair?", "church organs", "forward"),
    ("keeper", "Who repairs church organs as a hobby?", "Orla Vashtik", "backward"),
    ("village", "What are the streets of Pellowick made of?", "oyster shells", "forward"),
    ("village", "Which village has streets of oyster shells?", "Pellowick", "backward"),
    ("agency", "What does Korvenna lend to electricians?", "ferrets", "forward"),
    ("agency", "Which agency lends ferrets?", "Korvenna", "backward"),
]
PAIRS = tuple(
    QAPair(f"{document}-{direction}", document, question, (answer,), direction)
    for document, question, answer, direction in ASKED
)
# What the base model says where it is not asked for a fact that it knows.
CHATTER = "I am happy to help you with that, and here are some simple steps to begin with."


@dataclass(frozen=True)
class Planted:
    """What a trained model says; each function is given the probe and what an unchanged model says."""

    everyday: Callable[[Probe, str], str] = lambda probe, said: said
    known: Callable[[Probe, str], str] = lambda probe, said: said
    bare: Callable[[QAPair], str] = lambda pair: f"It is {pair.answers[0]}."
    forms: Callable[[Probe, str], str] = lambda probe, said: said
    stopped: bool = True
    nats: float = 0.0
