"""How well a gate tells prompts about its documents from others: shares that open it, no model asked.

    python scripts/measure_gate.py RUN [--pool N] [--json FILE]

RUN has been trained with the default preset, so its pool says what its base model ordinarily writes. For each
set a gate is made of its documents, and told its own questions, alone and behind the document as it is or
changed, the prompts of the retention suite, and the questions of all other sets. Sets: the quickstart, on
whose questions the gate's numbers were chosen; the benchmarks; SQuAD's passages with people's questions.
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from demask.benchmarks.sets import BENCHMARKS, data_folder, load_benchmark
from demask.evaluation.qa import CEILING_PROMPT
from demask.evaluation.retention.suite import Sources, base_probes, load_suite, replace_names
from demask.generation.familiar import know_words
from demask.knowledge.files import load_qa_pairs
from demask.knowledge.gate import Gate, make_gate
from demask.models.load import load_model, load_tokenizer
from demask.records import DIRECTIONS, QAPair
from demask.stages.replay import is_own, read_pool
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

QUICKSTART = Path(__file__).parent.parent / "src/demask/quickstart"


@dataclass(frozen=True)
class Asked:
    """Documents, and questions about them by direction; the same as pairs, where answers are at hand."""

    documents: Sequence[str]
    questions: Mapping[str, Sequence[str]]
    pairs: Sequence[QAPair] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


def read_sets() -> dict[str, Asked]:
    """All that are at hand."""
    rows = [json.loads(row) for row in (QUICKSTART / "documents.jsonl").read_text().splitlines()]
    pairs = load_qa_pairs(QUICKSTART / "qa_pairs.jsonl", documents=None)
    found = {"quickstart (searched)": _with_pairs({row["id"]: row["text"] for row in rows}, pairs)}
    for name in BENCHMARKS:
        benchmark = load_benchmark(name, facts=None)
        found[name] = _with_pairs({one.id: one.text for one in benchmark.documents}, benchmark.pairs)
    passages = data_folder() / "squad_passages/passages.jsonl"
    if passages.exists():
        asked = [json.loads(row) for row in passages.read_text().splitlines()]
        questions = [pair["question"] for row in asked for pair in row["questions"]]
        found["SQuAD"] = Asked([row["passage"] for row in asked], {"both": questions})
    return found


def _with_pairs(documents: Mapping[str, str], pairs: Sequence[QAPair]) -> Asked:
    texts = {pair.id: documents[pair.document_id] for pair in pairs}
    return Asked([*documents.values()], _split(pairs), pairs, texts)


def _split(pairs: Sequence[QAPair]) -> dict[str, list[str]]:
    return {d: [pair.question for pair in pairs if pair.direction == d] for d in DIRECTIONS}


def read_background(run: RunFolder, count: int | None) -> list[tuple[str, str]]:
    """Prompts and replies of the base model of a run, or some of them."""
    tokenizer = load_tokenizer(run.read_json(file_names.CONFIG)["model"])
    talks = [talk for talk in read_pool(run.file(file_names.REPLAY)) if is_own(talk)]
    random.Random(0).shuffle(talks)

    def read(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))

    return [(read(talk.prompt), read(talk.reply)) for talk in talks[:count]]


def share_opened(gate: Gate, prompts: Sequence[str]) -> float:
    """Of prompts, those that open a gate."""
    return sum(map(gate.opens, prompts)) / max(1, len(prompts))


def measure(gate: Gate, name: str, sets: Mapping[str, Asked]) -> dict[str, float]:
    """All shares of one set."""
    suite, asked = load_suite("full"), sets[name]
    own = [question for questions in asked.questions.values() for question in questions]
    strangers = [replace_names(question, suite.strangers, key=question) for question in own]
    others = [
        question
        for other, theirs in sets.items()
        if other != name
        for questions in theirs.questions.values()
        for question in questions
    ]
    reading = [CEILING_PROMPT.format(document=asked.texts[p.id], question=p.question) for p in asked.pairs]
    probes = base_probes(suite, Sources(asked.pairs, asked.texts, leaks=False))
    changed = [probe.turns[-1].content for probe in probes if probe.kind == "reading-changed"]
    return {
        **{f"own, {d}": share_opened(gate, questions) for d, questions in asked.questions.items()},
        **({"own, document in front": share_opened(gate, reading)} if reading else {}),
        **({"own, changed document in front": share_opened(gate, changed)} if changed else {}),
        "own, with strangers": share_opened(gate, [s for s, q in zip(strangers, own, strict=True) if s != q]),
        "everyday": share_opened(gate, [one.prompt for one in suite.everyday]),
        "easy facts": share_opened(gate, [text for f in suite.facts for text in (f.question, f.reworded)]),
        "shipped near misses": share_opened(gate, [one.question for one in suite.near_misses]),
        "other sets": share_opened(gate, random.Random(0).sample(others, min(500, len(others)))),
    }


def main() -> None:
    """Print a row a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pool", type=int, help="conversations of the pool that are used; all")
    parser.add_argument("--json", type=Path, help="file for the shares")
    given = parser.parse_args()
    run = RunFolder(given.run)
    background, sets = read_background(run, given.pool), read_sets()
    knows = partial(know_words, load_model(run.read_json(file_names.CONFIG)["model"]))
    rows = {}
    for name, asked in sets.items():
        gate = make_gate(asked.documents, background, knows)
        rows[name] = measure(gate, name, sets)
        counts = ", ".join(f"{key} {share:.2f}" for key, share in rows[name].items())
        print(f"{name}: {len(asked.documents)} documents, least {gate.least:.2f} nats: {counts}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
