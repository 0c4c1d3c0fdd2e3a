"""How often must each passage be seen, and does that change with how many there are? A table, in two worlds.

    python scripts/measure_exposures.py lab --passages 10 30 100 300 --exposures 25 50 100 200 400
    python scripts/measure_exposures.py people --preset gated --passages 10 30 100 --exposures 10 20

`lab` pre-trains one tiny model and teaches it the first so many new people. `people` teaches the embedded
model the first ten of NameDescription, which are asked about in every cell, and others beside them that
nobody asks about: people, events, biographies. Runs that are complete are read, not repeated.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from demask.benchmarks.biography import load_biography
from demask.benchmarks.sets import data_folder, load_name_description, load_wiki_events
from demask.lab.pretraining import Pretraining, pretrain
from demask.lab.world import known_questions, make_world, new_documents, new_questions
from demask.progress import Silent
from demask.recipe.file import apply_overrides
from demask.recipe.sections import PRESETS
from demask.records import Document, QAPair
from demask.storage.run_folder import RunFolder

ASKED = 10  # people, of the set of people
COLUMNS = (
    "passages",
    "exposures",
    "updates",
    "tokens",
    "forward / backward",
    "known kept",
    "leak",
    "drift",
    "seconds",
)
KNOWN_ASKED = 200  # questions about what the lab's model was pre-trained on


@dataclass(frozen=True)
class Material:
    """What a cell of the table needs besides its number of passages.

    Attributes:
        documents: the first so many are taught.
        pairs: questions about them; those about documents that are not taught are left out.
        recipe: of a run.
        batch: passages in a step.
    """

    documents: tuple[Document, ...]
    pairs: tuple[QAPair, ...]
    recipe: Mapping[str, Any]
    batch: int


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", choices=["lab", "people"])
    parser.add_argument("--passages", nargs="+", type=int, default=[10, 30, 100])
    parser.add_argument("--exposures", nargs="+", type=int, default=[10, 20, 40])
    parser.add_argument("--preset", default="gated", choices=["fast", "gated", "keep"], help="not of the lab")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pretraining", type=int, default=450, help="steps, of the lab's model alone")
    parser.add_argument("--out", type=Path, default=Path("runs/exposures"))
    parser.add_argument("--set", nargs="*", default=[], help="keys of the recipe, for all cells")
    options = parser.parse_args()
    folder: Path = options.out / options.world
    make = make_lab if options.world == "lab" else make_people
    material = make(folder, max(options.passages), options)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for passages in options.passages:
        for exposures in options.exposures:
            name = f"{material.recipe['preset']}-{passages}-{exposures}-{options.seed}"
            summary = teach(folder / name, material, passages, exposures, options)
            print(describe(passages, summary, folder / name), flush=True)


def make_lab(folder: Path, passages: int, options: argparse.Namespace) -> Material:
    """A pre-trained model of a world with so many new people; questions about known ones are asked, too."""
    sizes = Pretraining(new=passages, autoregressive_steps=options.pretraining)
    world = make_world(known=sizes.known, new=sizes.new, seed=options.seed)
    model = pretrain(
        "autoregressive",
        world,
        sizes,
        folder / f"pre-trained-{passages}-{options.seed}",
        seed=options.seed,
        progress=Silent(),
    )
    RunFolder(folder).write_rows(f"known-{options.seed}.jsonl", known_questions(world, KNOWN_ASKED))
    recipe = {
        "preset": "fast",
        "model": str(model),
        "objective": PRESETS["paper"]["objective"],
        "train": {"learning_rate": 1e-4},
        "evaluate": {"max_new_tokens": 8, "batch_size": 200, "ceiling": False},
        "measure": "none",
    }
    return Material(tuple(new_documents(world)), tuple(new_questions(world)), recipe, batch=20)


def make_people(folder: Path, passages: int, options: argparse.Namespace) -> Material:
    """Ten people that are asked about, twenty more, and then what stands in their neighbourhood."""
    data = data_folder()
    people = load_name_description(data, facts=range(60))
    asked, more, rest = (
        people.documents[part] for part in (slice(0, ASKED), slice(40, 60), slice(ASKED, 40))
    )
    events = load_wiki_events(data, facts=range(20, 40)).documents
    lives = load_biography(data, facts=range(100, 120)).documents
    ids = {document.id for document in asked}
    recipe = {
        "preset": options.preset,
        "model": "embedded",
        "evaluate": {"max_new_tokens": 48},
        "measure": "brief",
    }
    return Material(
        documents=(*asked, *more, *rest, *events, *lives),
        pairs=tuple(pair for pair in people.pairs if pair.document_id in ids),
        recipe=recipe,
        batch=4 if options.preset == "keep" else 8,
    )


def teach(
    out: Path, material: Material, passages: int, exposures: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One cell: the summary of its run."""
    if passages > len(material.documents):
        sys.exit(f"{passages} passages: there are {len(material.documents)}")
    taught = material.documents[:passages]
    ids, batch = {document.id for document in taught}, min(material.batch, passages)
    place = RunFolder(out.parent)
    place.write_rows(f"documents-{passages}.jsonl", taught)
    place.write_rows(f"pairs-{passages}.jsonl", [pair for pair in material.pairs if pair.document_id in ids])
    values = {
        **material.recipe,
        "documents": [str(place.file(f"documents-{passages}.jsonl"))],
        "qa": str(place.file(f"pairs-{passages}.jsonl")),
        "seed": options.seed,
    }
    train = [f"train.steps={ceil(passages * exposures / batch)}", f"train.batch_size={batch}"]
    recipe = out.with_suffix(".yaml")
    recipe.write_text(yaml.safe_dump(apply_overrides(values, [*train, *options.set])), encoding="utf-8")
    command = [sys.executable, "-m", "demask", "inject", str(recipe), "--out", str(out), "--json"]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    summary: dict[str, Any] = json.loads(finished.stdout)
    if options.world == "lab":
        questions = out.parent / f"known-{options.seed}.jsonl"
        summary["known"] = ask_known(out, questions)
    return summary


def ask_known(run: Path, questions: Path) -> float:
    """Share of the questions about known people that a run's model still answers; asked once."""
    kept = run.with_suffix(".known")
    if not kept.exists():
        command = [sys.executable, "-m", "demask", "evaluate", str(run / "model"), "--qa", str(questions)]
        more = ["--max-new-tokens", "8", "--set", "batch_size=200", "--json"]
        said = subprocess.run([*command, *more], stdout=subprocess.PIPE, text=True, check=True).stdout
        metrics = json.loads(said)["metrics"]
        values = [found["contains"] for found in metrics.values()]
        right = sum(one["value"] * one["n"] for one in values) / sum(one["n"] for one in values)
        kept.write_text(f"{right}", encoding="utf-8")
    return float(kept.read_text(encoding="utf-8"))


def describe(passages: int, summary: Mapping[str, Any], run: Path) -> str:
    """A row of the table."""
    after = summary["metrics"]["after"]
    both = " / ".join(f"{after[way]['contains']['value']:.2f}" for way in ("forward", "backward"))
    cells = [passages, f"{summary['exposures']:.0f}", summary["steps"], f"{summary['tokens']:,}", both]
    cells += [*retention(summary), f"{summary['seconds']:.0f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def retention(summary: Mapping[str, Any]) -> Iterator[str]:
    """Known facts kept, leak and drift; of the lab known facts alone."""
    if "known" in summary:
        yield from (f"{summary['known']:.2f}", "", "")
        return
    measures = summary["retention"]["measures"]
    yield from (f"{measures[name]['value']:.2f}" for name in ("known", "leak"))
    yield f"{measures['drift']['value']:.3f}"


if __name__ == "__main__":
    main()
