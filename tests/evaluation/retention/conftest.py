"""A base model and trained ones, planted: what they say is written down, not generated."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.evaluation.retention.planted import CHATTER, DOCUMENTS, PAIRS, Planted

from demask.evaluation.metrics import Retention
from demask.evaluation.retention.asking import Reply
from demask.evaluation.retention.judging import Asked, judge_retention
from demask.evaluation.retention.suite import Probe, Sources, Suite, base_probes, load_suite, tuned_probes
from demask.records import Prediction


@pytest.fixture(scope="session")
def suite() -> Suite:
    return load_suite("brief")


@pytest.fixture(scope="session")
def judge(suite: Suite) -> Callable[[Planted], Retention]:
    """Judge a planted model against a base that knows every other fact."""
    pairs = {pair.id: pair for pair in PAIRS}
    facts = {fact.id: fact for fact in suite.facts}
    known = [fact for number, fact in enumerate(suite.facts) if number % 2 == 0]
    sources = Sources(PAIRS, {pair.id: DOCUMENTS[pair.document_id] for pair in PAIRS})

    def unchanged(probe: Probe) -> str:
        if probe.kind == "known" and facts[probe.id] in known:
            return f"That is {facts[probe.id].answers[0]}."
        if probe.kind in ("access", "reading"):
            return f"It is {pairs[probe.id].answers[0]}."
        return probe.expected or CHATTER

    def said(probe: Probe, planted: Planted) -> str:
        way = {
            "everyday": planted.everyday,
            "near-miss": planted.everyday,
            "known": planted.known,
            "access": planted.forms,
        }
        change = way.get(probe.kind)
        return change(probe, unchanged(probe)) if change else unchanged(probe)

    def reply(probe: Probe, text: str) -> Reply:
        turns = tuple((turn.role, turn.content) for turn in probe.turns)
        return Reply(probe.kind, probe.id, probe.form, turns, text, expected=probe.expected)

    texts = [Reply("text", text.id, tokens=200, nats=600.0) for text in suite.texts]
    talks = [Reply("conversation", opening.id, tokens=90) for opening in suite.openings]

    def judge(planted: Planted) -> Retention:
        tuned = [reply(probe, said(probe, planted)) for probe in tuned_probes(suite, sources, known)]
        after = [Prediction(pair.id, planted.bare(pair), stopped=planted.stopped) for pair in PAIRS]
        return judge_retention(
            Asked(
                suite=suite,
                pairs=PAIRS,
                documents=list(DOCUMENTS.values()),
                base=[*(reply(probe, unchanged(probe)) for probe in base_probes(suite, sources)), *texts],
                tuned=[
                    *tuned,
                    *(replace(talk, nats=planted.nats * talk.tokens) for talk in talks),
                    *(replace(text, nats=text.nats + planted.nats * text.tokens) for text in texts),
                ],
                after=after,
                ceiling=[Prediction(pair.id, pair.answers[0]) for pair in PAIRS],
            )
        )

    return judge


@pytest.fixture(scope="session")
def values(judge: Callable[[Planted], Retention]) -> Callable[[Planted], dict[str, float]]:
    """The measures of a planted model as plain numbers."""
    return lambda planted: {name: found.value for name, found in judge(planted).measures.items()}
