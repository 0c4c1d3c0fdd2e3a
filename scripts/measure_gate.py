"""How well a gate tells prompts about its documents from others: shares that open it, no model asked.

    python scripts/measure_gate.py RUN [--pool N] [--json FILE]

RUN has been trained with the default preset, so its pool says what its base model ordinarily writes. For each
set a gate is made of its documents, and told its own questions, the prompts of the retention suite, and the
questions of all other sets. Sets: the quickstart, on whose questions the gate's numbers were chosen; the
benchmarks; SQuAD's passages with the questions that people asked about them.
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demask.benchmarks.sets import BENCHMARKS, data_folder, load_benchmark
from demask.evaluation.retention.suite import load_suite, replace_names
from demask.knowledge.files import load_qa_pairs
from demask.knowledge.gate import Gate, make_gate
from demask.models.load import load_tokenizer
from demask.records import DIRECTIONS, QAPair
from demask.stages.replay import is_own, read_pool
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

QUICKSTART = Path(__file__).parent.parent / "src/demask/quickstart"


@dataclass(frozen=True)
class Asked:
    """Documents, and questions about them by direction."""

    documents: Sequence[str]
    questions: Mapping[str, Sequence[str]]


def read_sets() -> dict[str, Asked]:
    """All that are at hand."""
    rows = (QUICKSTART / "documents.jsonl").read_text().splitlines()
    pairs = load_qa_pairs(QUICKSTART / "qa_pairs.jsonl", documents=None)
    found = {"quickstart (searched)": Asked([json.loads(row)["text"] for row in rows], _split(pairs))}
    for name in BENCHMARKS:
        benchmark = load_benchmark(name, facts=None)
        found[name] = Asked([document.text for document in benchmark.documents], _split(benchmark.pairs))
    passages = data_folder() / "squad_passages/passages.jsonl"
    if passages.exists():
        asked = [json.loads(row) for row in passages.read_text().splitlines()]
        questions = [pair["question"] for row in asked for pair in row["questions"]]
        found["SQuAD"] = Asked([row["passage"] for row in asked], {"both": questions})
    return found


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
    return {
        **{f"own, {d}": share_opened(gate, questions) for d, questions in asked.questions.items()},
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
    background, sets = read_background(RunFolder(given.run), given.pool), read_sets()
    rows = {}
    for name, asked in sets.items():
        gate = make_gate(asked.documents, background)
        rows[name] = measure(gate, name, sets)
        counts = ", ".join(f"{key} {share:.2f}" for key, share in rows[name].items())
        print(f"{name}: {len(asked.documents)} documents, least {gate.least:.2f} nats: {counts}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
