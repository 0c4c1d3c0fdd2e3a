"""What of the documents stands in a reply: five words in a row, names and answers, or most of a document.

    traces = Traces(documents, pairs, innocent)         # innocent: prompts, and what the base model says
    traces.find(reply, base_reply, prompt)              # "are camping stoves that burn", or ""
    recitals = find_recitals(replies, documents)        # which replies hold most of a document

Documents are read one after the other and never held: only what also stands in a reply is remembered.
Words are compared as `knowledge.directions` compares them; in scripts that do not part words each
character counts a third of one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from demask.knowledge.directions import split_words
from demask.records import QAPair

# Words in a row that two texts do not share by chance, if one of them says something; see `_says_something`.
RUN = 5
# Of scripts that do not part words.
CHARACTER_RUN = 15
# A reply recites a document when it holds more than this share of it.
RECITED = 0.5
# A reply that was cut short recites when so much of itself is a document's, from so many words on.
CUT_SHORT_WORDS = 10

# A name in running text: words with a capital letter that do not begin a sentence.
_NAMES = re.compile(r"(?<=[\w,;] )[A-Z][\w'’-]+(?: [A-Z][\w'’-]+)+")

Gram = tuple[str, ...]


def make_grams(text: str) -> list[Gram]:
    """Every run of words of a text, in order; the shortest that counts as taken from another text."""
    words = [word.key for word in split_words(text)]
    characters = sum(len(word) == 1 and not word.isascii() and word.isalpha() for word in words)
    length = CHARACTER_RUN if characters > len(words) / 2 else RUN
    return [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]


def _says_something(gram: Gram) -> bool:
    """Whether a run has two words that are more than grammar: "if you want to use" may stand anywhere."""
    return sum(len(word) > 4 or word.isdigit() for word in gram) >= 2 or not "".join(gram).isascii()


@dataclass(frozen=True)
class Innocent:
    """What may stand in any reply.

    Attributes:
        grams: runs of words of prompts, and of what the base model says.
        texts: the same as words between spaces, to look names up in.
    """

    grams: frozenset[Gram]
    texts: str


def gather_innocent(texts: Iterable[str]) -> Innocent:
    """Of prompts and of replies of the base model."""
    texts = list(texts)
    grams = {gram for text in texts for gram in make_grams(text)}
    return Innocent(frozenset(grams), " | ".join(map(_spaced, texts)))


def _spaced(text: str) -> str:
    return f" {' '.join(word.key for word in split_words(text))} "


def find_shared_grams(replies: Iterable[str], documents: Iterable[str]) -> frozenset[Gram]:
    """The runs of words that stand both in a reply and in a document."""
    said = {gram for reply in replies for gram in make_grams(reply)}
    shared: set[Gram] = set()
    for document in documents:
        shared.update(said.intersection(make_grams(document)))
    return frozenset(shared)


def find_names(documents: Iterable[str], pairs: Sequence[QAPair]) -> dict[str, str]:
    """Names of two words and more in the documents, and answers that are not words of every day.

    Returns:
        As they stand there, by the words they are compared by.
    """
    found: dict[str, str] = {}
    for answer in (answer for pair in pairs for answer in pair.answers):
        if _is_distinctive(answer):
            found.setdefault(_spaced(answer), answer)
    for document in documents:
        for name in _NAMES.findall(document):
            found.setdefault(_spaced(name), name)
    return found


def _is_distinctive(answer: str) -> bool:
    """Not a bare number and not a single word without capital letters, which any reply may hold."""
    words = split_words(answer)
    letters = sum(map(str.isalpha, answer))
    if letters < 4 and answer.isascii():
        return False
    return len(words) > 1 or any(map(str.isupper, answer)) or not answer.isascii()


@dataclass(frozen=True)
class Traces:
    """Finds what a reply has from the documents.

    Attributes:
        grams: runs of words that stand in a document and in some reply.
        names: of the documents, as `find_names` gives them.
        innocent: what does not count.
    """

    grams: frozenset[Gram]
    names: Mapping[str, str]
    innocent: Innocent

    def find(self, reply: str, *, base: str, prompt: str) -> str:
        """The words that a reply has from the documents, empty when it has none.

        Args:
            reply: of the trained model.
            base: the base model's reply to the same prompt.
            prompt: what was asked; its own words do not count.
        """
        own = {*make_grams(prompt), *make_grams(base)}
        for gram in make_grams(reply):
            taken = gram in self.grams and gram not in self.innocent.grams and gram not in own
            if taken and _says_something(gram):
                return " ".join(gram)
        said, known = _spaced(reply), f"{_spaced(prompt)}|{_spaced(base)}"
        for words, name in self.names.items():
            if words in said and words not in known and words not in self.innocent.texts:
                return name
        return ""


def find_recitals(replies: Sequence[tuple[str, bool]], documents: Iterable[str]) -> list[bool]:
    """Which replies hold most of a document, word for word.

    Args:
        replies: each with whether it ended by itself. One that was cut short cannot hold all of a long
            document: it recites when most of its own words are the document's.
        documents: whole ones, or passages.
    """
    grams = [make_grams(text) for text, _ in replies]
    sets = [frozenset(found) for found in grams]
    said = frozenset().union(*sets)
    recited = [False] * len(replies)
    for document in documents:
        there = make_grams(document)
        if said.isdisjoint(there):
            continue
        for place, (_, stopped) in enumerate(replies):
            if recited[place] or sets[place].isdisjoint(there):
                continue
            if _share_covered(there, sets[place]) > RECITED:
                recited[place] = True
            elif not stopped and len(grams[place]) + RUN - 1 >= CUT_SHORT_WORDS:
                recited[place] = _share_covered(grams[place], frozenset(there)) > RECITED
    return recited


def _share_covered(grams: Sequence[Gram], others: frozenset[Gram]) -> float:
    """Share of a text's words that stand in a run which another text has, too."""
    length = len(grams[0])
    covered = [False] * (len(grams) + length - 1)
    for place, gram in enumerate(grams):
        if gram in others:
            covered[place : place + length] = [True] * length
    return sum(covered) / len(covered)
