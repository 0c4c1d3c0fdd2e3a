"""QA pairs that a language model writes, each judged by code; what fails is mended once or set aside.

    for written in write_pairs(passages, complete, count=3, made_by="qwen3-8b"):
        written.pairs, written.rejects                    # of one passage

The model is asked for facts, each as a question in the order of the text and one against it. Whether a
question is forward or backward is decided from where its words stand, not by what the model says it is.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from demask.knowledge.directions import decide_direction, find_answers
from demask.records import Direction, Passage, QAPair

Complete = Callable[[Sequence[str]], list[str]]

# Short answers can be judged by whether they are contained in what a model says.
MOST_WORDS = 5
# Passages whose prompts are sent together: enough to keep a server busy, few enough to hold at once.
_AT_ONCE = 64
# Characters of a question and an answer, where a writer can be held to them.
_MOST_ASKED, _MOST_ANSWERED = 200, 60
_SHOWN = 500  # characters of a reply in a reject; enough to see what it is

# Of a model here, before it may write: so many questions, of which so many must be usable. The audit and the
# repair that follow mend some of the rest.
ENTRANCE_QUESTIONS, ENTRANCE_SHARE = 10, 0.7

PROMPT = """\
Write test questions about the passage below. Choose {count} facts that only this passage tells. Ask each
fact twice, once each way round:
- "forward" names what the passage mentions first and asks for what it mentions later;
- "backward" names what it mentions later and asks for what it mentions first.

Rules:
- An answer has at most {words} words and is copied from the passage exactly.
- A question does not contain its answer.
- The reader does not see the passage: name people, things and places in full and give enough detail for one
  answer only. Never write "the passage", "the text", "he" or "this company".

Reply with JSON and nothing else, in this form:
[{{"forward": {{"question": "...", "answer": "..."}}, "backward": {{"question": "...", "answer": "..."}}}}]

Passage:
{passage}"""

REPAIR = """\
{prompt}

You replied:
{reply}

That cannot be used:
{problems}

Write the whole list again, as JSON and nothing else, with these problems mended."""


def make_schema(count: int) -> dict[str, Any]:
    """The JSON schema of a reply, for writers that can be held to one.

    Args:
        count: of facts at most.
    """
    texts = {"question": _MOST_ASKED, "answer": _MOST_ANSWERED}
    question = _make_object(
        {key: {"type": "string", "minLength": 1, "maxLength": most} for key, most in texts.items()}
    )
    fact = _make_object({"forward": question, "backward": question})
    return {"type": "array", "items": fact, "minItems": 1, "maxItems": count}


def _make_object(properties: dict[str, Any]) -> dict[str, Any]:
    required = list(properties)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


class Written(NamedTuple):
    """What became of one passage."""

    passage: Passage
    pairs: tuple[QAPair, ...]
    rejects: tuple[dict[str, Any], ...]  # rows of a rejects file: what it was, and `reasons`


class _Question(BaseModel):
    model_config = ConfigDict(frozen=True)

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True)

    forward: _Question
    backward: _Question


class _Judged(NamedTuple):
    """One reply of the model: what can be used of it, and what is wrong with the rest."""

    pairs: tuple[QAPair, ...]
    rejects: tuple[dict[str, Any], ...]

    @property
    def problems(self) -> list[str]:
        return [
            f"- {row['question']}: {reason}" if "question" in row else f"- {reason}"
            for row in self.rejects
            for reason in row["reasons"]
        ]


def write_pairs(
    passages: Iterable[Passage], complete: Complete, *, count: int, made_by: str
) -> Iterator[Written]:
    """Have questions written about every passage, in order.

    Args:
        passages: read as a stream.
        complete: from prompts to what the model says to each; may answer from a cache.
        count: facts asked for per passage, each both ways round.
        made_by: the model's name, for the records.
    """
    stream = iter(passages)
    while part := list(islice(stream, _AT_ONCE)):
        prompts = [make_prompt(passage, count) for passage in part]
        replies = complete(prompts)
        judged = [_judge(*asked, made_by=made_by) for asked in zip(part, replies, strict=True)]
        failed = [place for place, found in enumerate(judged) if found.rejects]
        repairs = [
            REPAIR.format(
                prompt=prompts[place], reply=replies[place], problems="\n".join(judged[place].problems)
            )
            for place in failed
        ]
        for place, reply in zip(failed, complete(repairs) if repairs else [], strict=True):
            second = _judge(part[place], reply, made_by=made_by)
            if len(second.pairs) > len(judged[place].pairs) or not second.rejects:
                judged[place] = second
        for passage, found in zip(part, judged, strict=True):
            yield Written(passage, found.pairs, found.rejects)


class Entrance(NamedTuple):
    """What a model made of a few passages, before it may write questions about all of them."""

    asked: int  # questions that it wrote, or that were asked for where it wrote none
    usable: int  # of them: JSON, the answer in the text, the question without it, a clear direction
    forward: int
    backward: int

    @property
    def passed(self) -> bool:
        """Whether most questions can be used, and both directions are among them."""
        return self.usable >= ENTRANCE_SHARE * self.asked and min(self.forward, self.backward) > 0

    def describe(self, name: str) -> str:
        """One sentence for people."""
        end = (
            "so it writes the questions"
            if self.passed
            else "so rules make them, which make fewer; a larger model, or a server, writes more"
        )
        return (
            f"{name} wrote {self.usable} of {self.asked} usable questions in the entrance test "
            f"({self.forward} forward, {self.backward} backward; {ENTRANCE_SHARE:.0%} and both kinds are "
            f"needed), {end}"
        )


def take_entrance_test(passages: Sequence[Passage], complete: Complete, *, count: int) -> Entrance:
    """Let a model write about some passages, and judge what it wrote.

    Args:
        passages: those of all passages that `choose_for_entrance` names.
        complete: from prompts to what the model says to each.
        count: facts asked for per passage, each both ways round.
    """
    part = choose_for_entrance(passages, count)
    replies = complete([make_prompt(passage, count) for passage in part])
    judged = [_judge(*asked, made_by="") for asked in zip(part, replies, strict=True)]
    pairs = [pair for found in judged for pair in found.pairs]
    forward = sum(pair.direction == "forward" for pair in pairs)
    # A reply that cannot be read is as many bad questions as were asked for; one with fewer facts is none.
    failed = sum(2 * count if "reply" in row else 1 for found in judged for row in found.rejects)
    return Entrance(len(pairs) + failed, len(pairs), forward, len(pairs) - forward)


def choose_for_entrance(passages: Sequence[Passage], count: int) -> list[Passage]:
    """So many passages, evenly over all, that ten questions or a few more are asked for."""
    wanted = -(-ENTRANCE_QUESTIONS // (2 * count))
    step = max(1, len(passages) // wanted)
    return list(passages[::step][:wanted])


def make_prompt(passage: Passage, count: int) -> str:
    """What the model is asked for one passage; the heading goes in front, as it does in training."""
    return PROMPT.format(count=count, words=MOST_WORDS, passage=passage.training_text)


def _judge(passage: Passage, reply: str, *, made_by: str) -> _Judged:
    facts = _read_facts(reply)
    row = {"document_id": passage.document_id, "passage_id": passage.id}
    if isinstance(facts, str):
        return _Judged((), ({**row, "reasons": [facts], "reply": reply[:_SHOWN]},))
    pairs: list[QAPair] = []
    rejects: list[dict[str, Any]] = []
    for number, fact in enumerate(facts, start=1):
        taken: set[Direction] = set()
        for asked in (fact.forward, fact.backward):
            question, answer = asked.question, asked.answer
            direction = decide_direction(passage.training_text, question, [answer])
            reasons = _find_faults(passage, asked, direction, {pair.question for pair in pairs})
            if direction in taken:
                reasons.append(f"it is {direction} like the other question of this fact")
            if reasons or direction is None:
                rejects.append({**row, "question": question, "answers": [answer], "reasons": reasons})
                continue
            taken.add(direction)
            id, about = f"{passage.id}/{number}{direction[0]}", passage.document_id
            pairs.append(QAPair(id, about, question.strip(), (answer.strip(),), direction, made_by=made_by))
    return _Judged(tuple(pairs), tuple(rejects))


def _find_faults(
    passage: Passage, asked: _Question, direction: Direction | None, others: set[str]
) -> list[str]:
    """Why a question cannot be used, in words that its writer can act on."""
    faults = []
    words = len(asked.answer.split())
    if words > MOST_WORDS:
        faults.append(f"the answer has {words} words, at most {MOST_WORDS} are allowed")
    if not find_answers(passage.training_text, [asked.answer]):
        faults.append(f"the answer {asked.answer!r} does not stand in the passage word for word")
    elif direction is None:
        faults.append("its words do not stand clearly before or after the answer in the passage")
    if find_answers(asked.question, [asked.answer]):
        faults.append("the question contains its answer")
    if asked.question.strip() in others:
        faults.append("the same question was asked before")
    return faults


def _read_facts(reply: str) -> list[_Fact] | str:
    """The facts of a reply, with or without words or code fences around them; or what is wrong with it."""
    if not reply.strip():
        return "the reply is empty"
    start = min((place for place in map(reply.find, "[{") if place >= 0), default=-1)
    if start < 0:
        return "the reply holds no JSON"
    try:
        value, _ = json.JSONDecoder().raw_decode(reply, start)
    except (json.JSONDecodeError, RecursionError) as error:
        return f"the reply is not JSON ({error})"
    if isinstance(value, dict):  # one fact without brackets, or the list under some name
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        value = lists[0] if lists else [value]
    try:
        facts = [_Fact.model_validate(fact) for fact in value]
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        return f"{place or 'a fact'}: {problem['msg'].lower()}"
    return facts or "the list is empty"
