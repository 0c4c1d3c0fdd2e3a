"""From what the base model and the trained one said to the measures of `evaluation.metrics`.

    result = judge_retention(Asked(...))
    result.measures["leak"]                     # Estimate(value=0.02, low=0.005, high=0.07, n=100)

Pure functions of texts and numbers: a finished run can be judged again from its folder. Every share has a
95% interval; prompts count one by one, wordings of a fact and questions about a document together.

Of the documents in a reply count five words in a row, names and answers, or most of a document. Documents are
read one after the other and never held: only what also stands in a reply is remembered. Words are compared
as `knowledge.directions` compares them; in scripts that do not part words each character counts a third of
one.
"""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from demask.evaluation.metrics import Estimate, Retention, Shown, contains
from demask.evaluation.retention.asking import Reply
from demask.evaluation.retention.suite import FORMS, KnownFact, Suite, asked_kind, known_facts
from demask.evaluation.statistics import estimate_mean, estimate_ratio
from demask.knowledge.directions import split_words
from demask.records import DIRECTIONS, Prediction, QAPair

BARE = "bare"
# Replies that a report shows, so that nobody has to believe a number.
SHOWN = 6


@dataclass(frozen=True)
class Asked:
    """All that was said.

    Attributes:
        suite: what was asked.
        pairs: the questions of the run.
        documents: their texts, or the passages; read several times.
        base: replies of the base model.
        tuned: replies of the trained model.
        after: what the trained model said to the bare questions.
        ceiling: what the base model said with the document in the prompt; empty when it was not asked.
    """

    suite: Suite
    pairs: Sequence[QAPair]
    documents: Iterable[str]
    base: Sequence[Reply]
    tuned: Sequence[Reply]
    after: Sequence[Prediction]
    ceiling: Sequence[Prediction]


def judge_retention(asked: Asked) -> Retention:
    """Every measure that what was said allows."""
    measures: dict[str, Estimate] = {}
    leaks, shown = _judge_leaks(asked)
    measures |= leaks
    measures |= _judge_known(asked)
    measures |= _judge_drift(asked)
    access = _judge_access(asked)
    measures |= access.measures
    reading, of_base = _judge_reading(asked)
    measures |= reading
    measures |= _judge_recital(asked)
    return Retention(
        suite=asked.suite.describe(),
        measures=measures,
        base=of_base,
        access=access.forms,
        lengths=_median_words(asked),
        related=asked_kind(asked.pairs),
        shown=shown,
        missing=tuple(_say_missing(asked, measures)),
    )


def right_facts(replies: Iterable[Reply], facts: Sequence[KnownFact]) -> dict[tuple[str, str], bool]:
    """Whether each wording of each fact was answered right, by id and form."""
    answers = {fact.id: fact.answers for fact in facts}
    return {
        (reply.id, reply.form): bool(contains(reply.text, answers[reply.id]))
        for reply in replies
        if reply.kind == "known" and reply.id in answers
    }


def _of_kind(replies: Iterable[Reply], kind: str) -> list[Reply]:
    return [reply for reply in replies if reply.kind == kind]


def _share(values: Sequence[float | bool], clusters: Sequence[str]) -> Estimate:
    return estimate_mean([float(value) for value in values], clusters)


def _judge_leaks(asked: Asked) -> tuple[dict[str, Estimate], tuple[Shown, ...]]:
    before = {(reply.kind, reply.id, reply.form): reply.text for reply in asked.base}
    replies = [*_of_kind(asked.tuned, "everyday"), *_of_kind(asked.tuned, "near-miss")]
    traces = Traces(
        grams=find_shared_grams((reply.text for reply in replies), asked.documents),
        names=find_names(asked.documents, asked.pairs),
        innocent=gather_innocent(
            text
            for reply in asked.base
            if reply.kind in ("everyday", "near-miss", "known")
            for text in (reply.text, reply.turns[-1][1])
            if text == reply.text or reply.form != "made"  # a question about the documents names them
        ),
    )
    answers = {pair.id: pair.answers for pair in asked.pairs}
    found: dict[str, list[tuple[Reply, str]]] = {"everyday": [], "near-miss": []}
    for reply in replies:
        base, prompt = before.get((reply.kind, reply.id, reply.form), ""), reply.turns[-1][1]
        trace = traces.find(reply.text, base=base, prompt=prompt)
        if not trace and reply.form == "made":
            trace = _own_answer(reply.text, answers.get(reply.id, ()), said=f"{base} {prompt}")
        found[reply.kind].append((reply, trace))
    measures = {
        name: _share([bool(trace) for _, trace in found[kind]], [reply.id for reply, _ in found[kind]])
        for name, kind in (("leak", "everyday"), ("near_miss", "near-miss"))
        if found[kind]
    }
    shown = [
        Shown(name, reply.turns[-1][1], reply.text, trace)
        for name, kind in (("leak", "everyday"), ("near_miss", "near-miss"))
        for reply, trace in [one for one in found[kind] if one[1]][:SHOWN]
    ]
    return measures, tuple(shown)


def _own_answer(reply: str, answers: tuple[str, ...], *, said: str) -> str:
    """The answer that was trained to this question when it was about something else."""
    for answer in answers:
        if contains(reply, (answer,)) and not contains(said, (answer,)):
            return answer
    return ""


def _judge_known(asked: Asked) -> dict[str, Estimate]:
    facts = {fact.id: fact for fact in asked.suite.facts}
    known = {fact.id for fact in known_facts(asked.suite.facts, right_facts(asked.base, asked.suite.facts))}
    right = right_facts(asked.tuned, asked.suite.facts)
    kept = [(id, value) for (id, _), value in right.items() if id in known]
    kind = asked_kind(asked.pairs)
    related = [(id, value) for id, value in kept if facts[id].asks == kind]
    return {
        name: _share([value for _, value in values], [id for id, _ in values])
        for name, values in (("known", kept), ("known_related", related if asked.pairs else []))
        if values
    }


def _judge_drift(asked: Asked) -> dict[str, Estimate]:
    measures = {}
    talks = _of_kind(asked.tuned, "conversation")
    if len(talks) > 1:
        measures["drift"] = estimate_ratio(
            [row.nats for row in talks], [row.tokens for row in talks], least=0.0
        )
    before = {row.id: row for row in _of_kind(asked.base, "text")}
    after = [row for row in _of_kind(asked.tuned, "text") if row.id in before]
    if len(after) > 1:
        changes = [row.nats - before[row.id].nats for row in after]
        measures["text_drift"] = estimate_ratio(changes, [row.tokens for row in after])
    return measures


@dataclass(frozen=True)
class _Access:
    measures: Mapping[str, Estimate]
    forms: Mapping[str, Mapping[str, Estimate]]


def _judge_access(asked: Asked) -> _Access:
    """Every form in both directions, on the same questions."""
    pairs = {pair.id: pair for pair in asked.pairs}
    replies = [reply for reply in _of_kind(asked.tuned, "access") if reply.id in pairs]
    ids = list(dict.fromkeys(reply.id for reply in replies))
    right: dict[str, dict[str, bool]] = {BARE: {}}
    for prediction in asked.after:
        if prediction.qa_id in pairs and prediction.qa_id in ids:
            right[BARE][prediction.qa_id] = bool(contains(prediction.text, pairs[prediction.qa_id].answers))
    for reply in replies:
        right.setdefault(reply.form, {})[reply.id] = bool(contains(reply.text, pairs[reply.id].answers))
    forms: dict[str, dict[str, Estimate]] = {
        form: {
            direction: _share([right[form][id] for id in there], [pairs[id].document_id for id in there])
            for direction in DIRECTIONS
            if (there := [id for id in right[form] if pairs[id].direction == direction])
        }
        for form in (BARE, *FORMS)
        if right.get(form)
    }
    if not replies:
        return _Access({}, forms)
    worst = min((m for by in forms.values() for m in by.values()), key=lambda m: (m.value, m.low))
    always = [all(right[form].get(id, True) for form in right) for id in ids]
    carried = [
        (id, right[form][id]) for form in right if form != BARE for id in right[form] if right[BARE].get(id)
    ]
    measures = {
        "access": worst,
        "every_form": _share(always, [pairs[id].document_id for id in ids]),
    }
    if carried:
        measures["carry_over"] = _share(
            [value for _, value in carried], [pairs[id].document_id for id, _ in carried]
        )
    return _Access(measures, forms)


def _judge_reading(asked: Asked) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Of the trained model and of its base, on the same questions."""
    pairs = {pair.id: pair for pair in asked.pairs}
    tuned = [reply for reply in _of_kind(asked.tuned, "reading") if reply.id in pairs]
    ceiling = {prediction.qa_id: prediction.text for prediction in asked.ceiling}
    measures, of_base = {}, {}
    if tuned:
        measures["reading"] = _answered([(pairs[reply.id], reply.text) for reply in tuned])
        shared = [(pairs[reply.id], ceiling[reply.id]) for reply in tuned if reply.id in ceiling]
        if shared:
            of_base["reading"] = _answered(shared)
    for replies, into in ((asked.tuned, measures), (asked.base, of_base)):
        changed = [reply for reply in _of_kind(replies, "reading-changed") if reply.id in pairs]
        if changed:
            into["reading_changed"] = _share(
                [contains(reply.text, (reply.expected,)) for reply in changed],
                [pairs[reply.id].document_id for reply in changed],
            )
    return measures, of_base


def _answered(replies: Sequence[tuple[QAPair, str]]) -> Estimate:
    return _share(
        [contains(text, pair.answers) for pair, text in replies], [pair.document_id for pair, _ in replies]
    )


def _judge_recital(asked: Asked) -> dict[str, Estimate]:
    if not asked.after:
        return {}
    documents = {pair.id: pair.document_id for pair in asked.pairs}
    recited = find_recitals([(said.text, said.stopped) for said in asked.after], asked.documents)
    return {"recital": _share(recited, [documents.get(said.qa_id, said.qa_id) for said in asked.after])}


def _median_words(asked: Asked) -> dict[str, float]:
    return {
        stage: float(statistics.median(len(split_words(said.text)) for said in predictions))
        for stage, predictions in (("after", asked.after), ("ceiling", asked.ceiling))
        if predictions
    }


def _say_missing(asked: Asked, measures: Mapping[str, Estimate]) -> Iterable[str]:
    if "known" not in measures:
        yield f"known facts: the base model knows none of {len(asked.suite.facts)} in both wordings"
    if "drift" not in measures:
        yield (
            "drift: masked-diffusion models have no next-token probabilities to compare, and a short context "
            "holds no conversation"
        )
    if not asked.pairs and _of_kind(asked.tuned, "everyday"):  # without it was trained on samples
        yield "forms of asking, reading and recital: there are no questions about the documents"
    if asked.pairs and "reading" not in measures:
        yield "reading: no document fits the model's context together with a question"


# Traces: what of the documents stands in a reply


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
