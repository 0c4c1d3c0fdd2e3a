"""Does a converted model know both halves of its texts? Rank what fills a gap, before and after training.

    python scripts/measure_cloze.py --out runs/cloze
    python scripts/measure_cloze.py --out runs/cloze-1 --seed 1 --preset paper --json

An autoregressive model is converted to masked diffusion and trained on NameDescription texts, half of them
name first, half description first. Then a half is taken out of each, and all names or all descriptions of
the texts are ranked in the gap by their likelihood given the rest. "Before" is the converted model untrained.

The headline is per token. How many masks fill a gap gives an answer's length away, so nats in total favour
short answers for their length alone, and names and descriptions differ in length. A model that knows its
texts ranks alike either way.

Controls: the other half is replaced, the wording stays. With a stranger's, of whom nothing was trained, no
answer is right: top-1 is at chance, or at twice chance when the model has learned which half of the answers
goes with which wording, as only these were trained in it. With another's of the trained, a model that
ignores the other half does as well as with its own, and one that knows the pairs does worse than chance.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cloze_gaps import ANOTHER, GAPS, ORDERS, OWN, STRANGER, Case, Fact, cutter, make_cases, read_facts
from rich.console import Console

from demask.benchmarks.sets import Benchmark, data_folder, load_name_description, write_benchmark
from demask.environment import describe_environment
from demask.errors import DemaskError
from demask.generation.likelihood import LogLikelihood, estimate_log_likelihood, rank_options
from demask.models.load import LoadedModel, load_model
from demask.progress import Progress
from demask.recipe.sections import RunConfig, make_config
from demask.storage.file_names import MODEL
from demask.tasks.convert import convert
from demask.tasks.inject import run_recipe
from demask.terminal import TerminalProgress

FACTS_OF_AN_ORDER = 30
# Of each order; the half of each is put into all texts of its order.
STRANGERS = 2
# In a forward pass. Half of the tokens are masked, and the logits of one take 0.2 MB.
BATCH_TOKENS = 4096


class Ranking(NamedTuple):
    """How the right option of a case did."""

    case: Case
    rank: int  # from 1
    nats: float  # of the right option
    margin: float  # nats by which it is likelier than the likeliest other
    error: float  # of the margin, from the draws


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of converted model and run")
    parser.add_argument("--model", default="embedded", help="autoregressive")
    parser.add_argument("--alignment", type=int, choices=(0, 1), default=1)
    parser.add_argument("--preset", choices=("count", "paper", "llada"), default="count")
    parser.add_argument("--texts", type=int, default=10, help="even; half of them name first")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, help="none: demask's default for the model's size")
    parser.add_argument("--draws", type=int, default=8, help="masks of an answer")
    parser.add_argument("--seed", type=int, default=0, help="of training and of the masks of the test")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    most = 2 * (FACTS_OF_AN_ORDER - STRANGERS)
    if options.texts not in range(4, most + 1, 2):
        parser.error(f"--texts {options.texts}: expected an even number from 4 to {most}")
    with TerminalProgress(Console(stderr=True)) as progress:
        try:
            result = measure(options, progress)
        except DemaskError as error:
            raise SystemExit(f"error: {error}") from error
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


def measure(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Convert, test, train and test again; what was converted and trained in the folder is not done again."""
    trained, strangers = choose_facts(options.texts // 2)
    write_benchmark(trained, options.out)
    converted = options.out / f"converted-{options.alignment}"
    if not converted.exists():
        convert(options.model, converted, to="diffusion", alignment=options.alignment, progress=progress)
    config = make_config(
        {
            "model": str(converted),
            "documents": str(options.out / "documents.jsonl"),
            "qa": "no",
            "objective": {"name": "diffusion", "preset": options.preset},
            "seed": options.seed,
            "train": {
                "steps": options.steps,
                "batch_size": options.batch_size,
                "learning_rate": options.learning_rate,
            },
        }
    )
    people = read_facts(trained), read_facts(strangers)
    begun = time.monotonic()
    before = rank_all(load_model(str(converted)), config, people, options.draws, progress)
    seconds = time.monotonic() - begun
    run = run_recipe(config, options.out / f"run-{options.seed}", progress=progress)
    after = rank_all(load_model(str(run.run_folder / MODEL)), config, people, options.draws, progress)
    return {
        "settings": {name: value for name, value in vars(options).items() if name not in ("out", "json")},
        "environment": describe_environment(),
        "learning_rate": run.summary["learning_rate"],
        "exposures": run.summary["exposures"],
        "seconds": {"one test": seconds, "training": run.summary["seconds"]},
        "chance": {"top1": 1 / options.texts, "rank": (options.texts + 1) / 2},
        "rows": [
            row
            for per_token in (True, False)
            for stage, found in (("before", before), ("after", after))
            for row in summarise(found[per_token], stage=stage, per_token=per_token)
        ],
    }


def choose_facts(count: int) -> tuple[Benchmark, Benchmark]:
    """So many texts of each order to train, and strangers of each order."""
    trained = [first + number for first in ORDERS.values() for number in range(count)]
    strangers = [first + count + number for first in ORDERS.values() for number in range(STRANGERS)]
    data = data_folder()
    return load_name_description(data, facts=trained), load_name_description(data, facts=strangers)


def rank_all(
    loaded: LoadedModel,
    config: RunConfig,
    people: tuple[Sequence[Fact], Sequence[Fact]],
    draws: int,
    progress: Progress,
) -> dict[bool, list[Ranking]]:
    """Rank in every case, per token (True) and in total (False).

    Texts are tokenised as in training; `people` are those of whom a text is trained, and strangers.
    """
    cases = make_cases(cutter(loaded, config), *people)
    # Texts of one order have one wording: "another's" asks nothing that is not asked anyway.
    requests = list(dict.fromkeys(request for case in cases for request in case.options))
    progress.begin("Ranking", len(requests))
    likelihoods = estimate_log_likelihood(
        loaded,
        requests,
        draws=draws,
        batch_tokens=BATCH_TOKENS,
        seed=config.seed,
        on_done=progress.advance,
    )
    found = dict(zip(requests, likelihoods, strict=True))
    return {
        per_token: [
            rank_case(case, [found[request] for request in case.options], per_token=per_token)
            for case in cases
        ]
        for per_token in (True, False)
    }


def rank_case(case: Case, options: Sequence[LogLikelihood], *, per_token: bool) -> Ranking:
    """Where the right option stands among all."""
    order = rank_options(options, per_token=per_token)
    rival = options[next(number for number in order if number != case.fact)]
    right = options[case.fact]
    units = (right.tokens, rival.tokens) if per_token else (1, 1)
    nats = right.nats / units[0]
    error = math.hypot(right.error / units[0], rival.error / units[1])
    return Ranking(case, order.index(case.fact) + 1, nats, nats - rival.nats / units[1], error)


def summarise(found: Sequence[Ranking], *, stage: str, per_token: bool) -> list[dict[str, Any]]:
    """One row for each gap and order, and one for both orders together."""
    rows = []
    for gap in GAPS:
        for order in (*ORDERS, "both"):
            chosen = [r for r in found if r.case.gap == gap and order in (r.case.order, "both")]
            row = {"unit": "nats/token" if per_token else "nats", "stage": stage, "gap": gap, "order": order}
            rows.append(row | summarise_row(chosen))
    return rows


def summarise_row(chosen: Sequence[Ranking]) -> dict[str, Any]:
    """Means over texts.

    Of the margin, `draws_error` is the mean of the texts' own: they share their masks, so that their
    errors may go together and do not average out. `texts_error` is the standard error over texts.
    """
    by_given = {given: [r for r in chosen if r.case.given == given] for given in (OWN, ANOTHER, STRANGER)}
    own = by_given[OWN]
    gains = [
        mine.nats - statistics.mean(r.nats for r in by_given[STRANGER] if r.case.fact == mine.case.fact)
        for mine in own
    ]
    return {
        "halves": {
            given: {
                "cases": len(rankings),
                "top1": sum(r.rank == 1 for r in rankings),
                "rank": statistics.mean(r.rank for r in rankings),
            }
            for given, rankings in by_given.items()
        },
        "margin": {
            "mean": statistics.mean(r.margin for r in own),
            "draws_error": statistics.mean(r.error for r in own),
            "texts_error": standard_error([r.margin for r in own]),
        },
        "gain": {"mean": statistics.mean(gains), "texts_error": standard_error(gains)},
    }


def standard_error(values: Sequence[float]) -> float:
    """Of the mean."""
    return statistics.stdev(values) / math.sqrt(len(values))


def show(result: dict[str, Any]) -> None:
    """As tables, the headline first."""
    settings, seconds = result["settings"], result["seconds"]
    print(
        f"{settings['model']}, alignment {settings['alignment']}, preset {settings['preset']}, "
        f"{settings['texts']} texts, {settings['steps']} steps of {settings['batch_size']} at "
        f"{result['learning_rate']:g} ({result['exposures']:.0f} exposures), seed {settings['seed']}; "
        f"training {seconds['training']:.0f} s, one test {seconds['one test']:.0f} s"
    )
    header = ["model", "gap", "order of the text", "top-1", "mean rank", "margin", "gain"]
    header += ["another's: top-1", "rank", "a stranger's: top-1", "rank"]
    for unit, title in (("nats/token", "Per token (headline)"), ("nats", "In total")):
        rows = [row for row in result["rows"] if row["unit"] == unit]
        print(f"\n{title}, {unit}\n")
        print("| " + " | ".join(header) + " |")
        print("|" + "---|" * len(header))
        for row in rows:
            print("| " + " | ".join(make_cells(row)) + " |")
    chance = result["chance"]
    print(
        f"\nChance: top-1 {chance['top1']:.0%}, mean rank {chance['rank']:.1f}. Margin: over the likeliest "
        "other, +- error from the masks drawn, +- standard error over texts. Gain: of the right answer, over "
        "itself with a stranger's half in the text, +- standard error over texts."
    )


def make_cells(row: dict[str, Any]) -> list[str]:
    """One line of a table."""
    margin, gain = row["margin"], row["gain"]
    halves = {
        given: [f"{values['top1']}/{values['cases']}", f"{values['rank']:.1f}"]
        for given, values in row["halves"].items()
    }
    return [
        row["stage"],
        row["gap"],
        row["order"],
        *halves[OWN],
        f"{margin['mean']:+.2f} +- {margin['draws_error']:.2f} +- {margin['texts_error']:.2f}",
        f"{gain['mean']:+.2f} +- {gain['texts_error']:.2f}",
        *halves[ANOTHER],
        *halves[STRANGER],
    ]


if __name__ == "__main__":
    main()
