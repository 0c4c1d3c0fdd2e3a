"""Ask a model the probes of the retention suite.

replies = ask_probes(loaded, probes, settings)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from demask.evaluation.qa import ask_kept
from demask.evaluation.retention.suite import Kind, Probe
from demask.generation.texts import turn_encoder
from demask.models.load import LoadedModel
from demask.recipe.sections import Evaluate
from demask.records import Prediction

# Tokens after which a reply is cut short. Leaks show in the first words; answers to easy facts are short.
# Questions about the documents have the limit of the run.
LIMITS: Mapping[Kind, int] = {"everyday": 32, "near-miss": 24, "known": 24}


_OF_NO_DOCUMENT = ("everyday", "known")


@dataclass(frozen=True)
class Reply:
    """What a model said to a probe, or what a text of its own has become.

    Attributes:
        kind: of the probe; `conversation` and `text` are drift, and have no words but nats.
        id: of the prompt, the fact or the QA pair.
        form: of the question, where it is asked in several.
        turns: the conversation up to the user's last turn, as [role, content].
        text: what was said, stripped.
        tokens: how many tokens it took; of drift how many were scored.
        stopped: False when the limit of new tokens cut it short.
        expected: of a document that was changed, what it says now.
        nats: of drift, the sum over its tokens: KL(base || trained) of a conversation, -log p of a text.
    """

    kind: str
    id: str
    form: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    text: str = ""
    tokens: int = 0
    stopped: bool = True
    expected: str = ""
    nats: float = 0.0


def ask_probes(
    loaded: LoadedModel,
    probes: Sequence[Probe],
    settings: Evaluate,
    *,
    keep: bool = False,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Reply]:
    """One reply for each probe, in order; those with the same limit of tokens are decoded together.

    Apart are only those that have nothing to do with the documents: what a base model says to them is kept
    for runs on other documents.

    Args:
        loaded: the model to ask.
        probes: what to ask.
        settings: batches, the limit for questions about documents, and how masked-diffusion models denoise.
        keep: of a base model: what it said to the same prompts is kept in the user's cache.
        on_done: told how many probes are done.
    """
    encode_turns = turn_encoder(loaded)
    replies: dict[int, Reply] = {}
    groups: dict[tuple[int, bool], list[int]] = {}
    for place, probe in enumerate(probes):
        groups.setdefault((limit_of(probe, settings), probe.kind in _OF_NO_DOCUMENT), []).append(place)
    for (limit, _), places in sorted(groups.items()):
        said = ask_kept(
            loaded,
            [encode_turns(probes[place].turns) for place in places],
            settings.model_copy(update={"max_new_tokens": limit}),
            keep=keep,
            on_done=on_done,
        )
        replies |= {place: make_reply(probes[place], one) for place, one in zip(places, said, strict=True)}
    return [replies[place] for place in range(len(probes))]


def make_reply(probe: Probe, said: Prediction) -> Reply:
    """What was said to a probe, with what it was said to."""
    return Reply(
        kind=probe.kind,
        id=probe.id,
        form=probe.form,
        turns=tuple((turn.role, turn.content) for turn in probe.turns),
        text=said.text,
        tokens=said.tokens,
        stopped=said.stopped,
        expected=probe.expected,
    )


def fitting_probes(loaded: LoadedModel, probes: Sequence[Probe], settings: Evaluate) -> list[Probe]:
    """Those that fit the model's context together with their replies."""
    encode_turns = turn_encoder(loaded)
    return [
        probe
        for probe in probes
        if len(encode_turns(probe.turns)) + limit_of(probe, settings) <= loaded.context
    ]


def limit_of(probe: Probe, settings: Evaluate) -> int:
    """Tokens after which the reply to a probe is cut short."""
    return LIMITS.get(probe.kind, settings.max_new_tokens)
