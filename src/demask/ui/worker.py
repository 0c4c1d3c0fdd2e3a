"""The process that answers for a run's model and its base, so that the page's server never holds a model.

    python -P -m demask.ui.worker runs/first

Reads a request a line on standard input and writes pieces of the answer as lines of JSON: `passage`, `turns`,
`chosen` (by the gate), `text`, `end`, `error`. It ends with the process that started it, or at the end of its
input.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from demask.errors import ConfigError, DemaskError
from demask.evaluation.retrieval import PassageIndex
from demask.openmp import share_cores
from demask.records import Passage, QAPair
from demask.signals import end_with_parent
from demask.storage import file_names

if TYPE_CHECKING:
    from demask.generation.texts import Turn
    from demask.tasks.talk import Talk

# What trains beside it goes first.
_NICE = 5
# Passages that are searched for the document of a known question.
_SEARCHED = 50


class _StoppedError(Exception):
    """Whoever asked does not want to hear more."""


@dataclass
class Answering:
    """A run's models, and what was asked of them last.

    Attributes:
        talk: with the trained model.
        send: to whoever asks.
        stopped: set when the answer is not wanted any more.
        number: of the request that is answered now.
    """

    talk: "Talk"
    send: Callable[[Mapping[str, Any]], None]
    stopped: threading.Event = field(default_factory=threading.Event)
    number: int = 0

    def say(self, value: Mapping[str, Any]) -> None:
        """Send an object of the answer that is given now."""
        self.send({**value, "number": self.number})

    @cached_property
    def base(self) -> "Talk":
        """With the base model, loaded when it is asked for."""
        from demask.tasks.talk import open_base

        return open_base(self.talk)

    @cached_property
    def pairs(self) -> Sequence[QAPair]:
        """The questions of the run."""
        run = self.talk.run
        known = run is not None and run.has(file_names.QA_PAIRS)
        return run.read_records(file_names.QA_PAIRS, QAPair) if run is not None and known else ()

    @cached_property
    def index(self) -> PassageIndex | None:
        """Its passages, to be searched."""
        run = self.talk.run
        if run is None or not run.has(file_names.PASSAGES):
            return None
        return PassageIndex(run.open_records(file_names.PASSAGES, Passage))

    def answer(self, request: Mapping[str, Any]) -> None:
        """Answer one request.

        Args:
            request: `turns` (role and content, the last a user's), `which` models, `form` of the suite (none:
                as it is), `document`: whether the passage stands in the prompt.
        """
        from demask.generation.texts import Turn

        turns = [Turn(turn["role"], turn["content"]) for turn in request["turns"]]
        passage = self._find_passage(turns[-1].content)
        if passage is None and request.get("document"):
            raise ConfigError(
                "no text of this run shares a word with the question; ask it in words of the text"
            )
        if passage is not None:
            shown = {"id": passage.id, "section": passage.section, "text": passage.text}
            self.say({"passage": shown})
        asked = self._reword(turns, passage, request)
        if request.get("form") or request.get("document"):
            self.say({"turns": [turn._asdict() for turn in asked]})
        for which in request["which"]:
            self._hear(which, asked)

    def _hear(self, which: str, turns: "Sequence[Turn]") -> None:
        from demask.models.gated import as_base, without_gate
        from demask.tasks.talk import hear, is_open

        def on_text(text: str) -> None:
            if self.stopped.is_set():
                raise _StoppedError
            self.say({"which": which, "text": text})

        loaded = self.talk.loaded
        if loaded.gated is None:
            reply = hear(self.base if which == "base" else self.talk, turns, on_text=on_text)
        elif which == "base":  # its weights are here already
            with as_base(loaded):
                reply = hear(replace(self.talk, loaded=without_gate(loaded)), turns, on_text=on_text)
        else:
            self.say({"which": which, "chosen": "trained" if is_open(self.talk, turns) else "base"})
            reply = hear(self.talk, turns, on_text=on_text)
        self.say({"which": which, "whole": reply.text, "cut": not reply.stopped, "tokens": reply.tokens})

    def _find_pair(self, question: str) -> QAPair | None:
        return next((pair for pair in self.pairs if pair.question == question), None)

    def _find_passage(self, question: str) -> Passage | None:
        """The passage that the answer should have come from; of a free question the one that fits it best."""
        if self.index is None:
            return None
        found, pair = self.index.search(question, top=_SEARCHED), self._find_pair(question)
        if pair is not None:
            found = [passage for passage in found if passage.document_id == pair.document_id] or found
            told = [p for p in found if any(answer.lower() in p.text.lower() for answer in pair.answers)]
            found = told or found
        return found[0] if found else None

    def _reword(
        self, turns: "list[Turn]", passage: Passage | None, request: Mapping[str, Any]
    ) -> "Sequence[Turn]":
        """The conversation in another form, or with the passage in its last turn."""
        from demask.evaluation.qa import CEILING_PROMPT
        from demask.evaluation.retention.suite import load_suite, make_forms
        from demask.generation.texts import Turn

        question = turns[-1].content
        if request.get("document") and passage is not None:
            asked = CEILING_PROMPT.format(document=passage.training_text, question=question)
            return [*turns[:-1], Turn("user", asked)]
        if not request.get("form"):
            return turns
        about = passage.document_id if passage is not None else ""
        pair = self._find_pair(question) or QAPair("own", about, question, ("",), "forward")
        suite = load_suite("brief")
        forms = make_forms(suite, pair, self.pairs, suite.facts)
        return forms.get(request["form"], tuple(turns))


def main(words: Sequence[str]) -> int:
    """Answer for a run until the input ends."""
    share_cores()
    os.nice(_NICE)
    end_with_parent()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer

    def say(value: Mapping[str, Any]) -> None:
        out.write(json.dumps(value, ensure_ascii=False) + "\n")

    from demask.tasks.talk import open_talk

    try:
        answering = Answering(open_talk(words[0], {}), say)
    except DemaskError as error:
        say({"error": str(error), "fatal": True})
        return error.exit_code
    say({"ready": True})
    requests: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
    threading.Thread(target=_listen, args=(requests, answering.stopped), daemon=True).start()
    while (request := requests.get()) is not None:
        answering.stopped.clear()
        answering.number = request["number"]
        try:
            answering.answer(request)
        except _StoppedError:
            pass
        except DemaskError as error:
            answering.say({"error": str(error)})
        say({"end": request["number"]})
    return 0


def _listen(requests: "queue.Queue[Mapping[str, Any] | None]", stopped: threading.Event) -> None:
    """Requests as they come; `stop` ends the one that is answered now."""
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("stop"):
            stopped.set()
        else:
            requests.put(request)
    requests.put(None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
