"""Ask a server in a model's place, and check that it says what our own decoder says.

    predictions, served = ask_served(server, pairs, settings, load=load, progress=progress)
    served.canary                                           # Canary(asked=50, equal=49)

Greedy decoding gives the same words wherever it runs, but for rounding. So the canary tells a server
that runs the same weights with the same template from one that does not. Without `load`, there is no
canary, and torch is not imported.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from demask.generation.server import Server, ask_server, choose_model, show_foreign
from demask.progress import Progress
from demask.recipe.sections import Evaluate
from demask.records import Prediction, QAPair

if TYPE_CHECKING:
    from demask.models.load import LoadedModel

# Ours: chance alone moves a share of 0.9 of 50 questions by 0.04 (one standard error).
CANARY_QUESTIONS = 50
# Ours: rounding (bf16, another batch) changes an answer here and there, another template nearly all.
CANARY_SHARE = 0.9


@dataclass(frozen=True)
class Canary:
    """How many questions got the same text from a server and from our own decoder."""

    asked: int
    equal: int

    @property
    def agrees(self) -> bool:
        """Whether the server can be taken to serve the same model in the same way."""
        return self.equal >= CANARY_SHARE * self.asked


@dataclass(frozen=True)
class Served:
    """Which server was asked, and whether it agreed with our own decoder; None: that was not checked."""

    url: str
    model: str
    canary: Canary | None


class ServedPredictions(NamedTuple):
    """What a server said, one prediction per question, and which server it was."""

    predictions: list[Prediction]
    served: Served


def ask_served(
    server: Server,
    pairs: Sequence[QAPair],
    settings: Evaluate,
    *,
    load: "Callable[[], LoadedModel] | None",
    progress: Progress,
) -> ServedPredictions:
    """Ask a server every question, and the model that it should serve the first ones.

    Args:
        server: where to ask.
        pairs: what to ask.
        settings: how.
        load: gives the model for the canary; None: no canary.
        progress: told how far it is, and warned when the two do not agree.

    Raises:
        DemaskError: the server or the model cannot be asked.
    """
    server = choose_model(server)
    loaded = load() if load else None  # first, so that the server does not work for a model that is missing
    progress.begin(f"Asking {server.url}", len(pairs), unit="questions")
    predictions = ask_server(server, pairs, max_new_tokens=settings.max_new_tokens, on_done=progress.advance)
    canary = None
    if loaded is not None:
        own = _ask_first(loaded, pairs, settings, progress)
        canary = compare_texts(predictions, own)
        if not canary.agrees:
            progress.say(canary_warning(server.url, pairs, predictions, own))
    return ServedPredictions(predictions, Served(server.url, str(server.model), canary))


def _ask_first(
    loaded: "LoadedModel", pairs: Sequence[QAPair], settings: Evaluate, progress: Progress
) -> list[Prediction]:
    from demask.evaluation.qa import ask_questions

    first = pairs[:CANARY_QUESTIONS]
    progress.begin("Asking the model itself", len(first), unit="questions")
    return ask_questions(loaded, first, settings, on_done=progress.advance)


def compare_texts(served: Sequence[Prediction], own: Sequence[Prediction]) -> Canary:
    """How many of our own predictions the server made, too; it may have been asked more."""
    texts = [(ours.text.strip(), theirs.text.strip()) for theirs, ours in zip(served, own, strict=False)]
    return Canary(len(texts), sum(ours == theirs for ours, theirs in texts))


def canary_warning(
    url: str, pairs: Sequence[QAPair], served: Sequence[Prediction], own: Sequence[Prediction]
) -> str:
    """Why the scores may not be those of the model, with the first question that was answered differently."""
    canary = compare_texts(served, own)
    pair, theirs, ours = next(
        (pair, theirs.text, ours.text)
        for pair, theirs, ours in zip(pairs, served, own, strict=False)
        if theirs.text.strip() != ours.text.strip()
    )
    return (
        f"Warning: {url} gave the text of our own decoder for only {canary.equal} of {canary.asked} "
        f"questions, expected {CANARY_SHARE:.0%}. It probably serves another model, chat template, number "
        f"format or decoding settings. Asked {show_foreign(pair.question)}, it said {show_foreign(theirs)}, "
        f"and our decoder {show_foreign(ours)}."
    )
