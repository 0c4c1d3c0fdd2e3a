"""Run folders as `demask inject` leaves them, made from a few invented facts."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demask.recipe.sections import RunConfig
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

FACTS = (
    ("Orlin Foundry", "Mara Voss", "1987"),
    ("Quill & Tern", "Idris Halloway", "2003"),
    ("the Sable Observatory", "Noor Castellane", "1994"),
    ("Brightwater Ferry Company", "Tomas Eberle", "2011"),
    ("the Lantern Prize", "Wen Abara", "1979"),
    ("Halcyon Seed Bank", "Ruta Kaminskas", "2019"),
    ("Northgate Press", "Elio Marchetti", "1968"),
    ("the Verity Archive", "Saoirse Lund", "2007"),
)


def _documents() -> list[dict[str, Any]]:
    return [
        {
            "id": f"d{i}",
            "title": name[0].upper() + name[1:],
            "text": f"{founder} founded {name} in {year}. It has stood on the same street ever since.",
            "source": f"facts.jsonl line {i + 1}",
            "metadata": {},
        }
        for i, (name, founder, year) in enumerate(FACTS)
    ]


def _pairs(copies: int) -> list[dict[str, Any]]:
    pairs = []
    for copy in range(copies):
        for i, (name, founder, year) in enumerate(FACTS):
            asked = (
                ("forward", f"What did {founder} found, and when?", [year]),
                ("backward", f"Who founded {name}?", [founder]),
            )
            for direction, question, answers in asked:
                pairs.append(
                    {
                        "id": f"{direction}-{i}-{copy}",
                        "document_id": f"d{i}",
                        "question": question,
                        "answers": answers,
                        "direction": direction,
                        "kind": "founder",
                    }
                )
    return pairs


def _said(pair: dict[str, Any], right: bool) -> str:
    if right:
        return f"As far as the record goes it was {pair['answers'][0]}, and nobody else."
    return "I am not sure. It may have been a group of local merchants in the 19th century."


def _score(pair: dict[str, Any], stage: str, right: bool) -> dict[str, Any]:
    value = float(right)
    return {
        "stage": stage,
        "qa_id": pair["id"],
        "exact_match": 0.0,
        "contains": value,
        "f1": 0.3 * value,
        "rouge1_recall": value,
    }


def _interval(values: list[float]) -> dict[str, float]:
    mean = sum(values) / len(values)
    half = 1.96 * math.sqrt(max(mean * (1 - mean), 0.02) / len(values))
    return {"value": mean, "low": max(mean - half, 0.0), "high": min(mean + half, 1.0), "n": len(values)}


def _aggregate(scores: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> dict[str, Any]:
    direction_of = {pair["id"]: pair["direction"] for pair in pairs}
    metrics: dict[str, Any] = {}
    for stage in dict.fromkeys(score["stage"] for score in scores):
        for direction in dict.fromkeys(direction_of.values()):
            chosen = [s for s in scores if s["stage"] == stage and direction_of[s["qa_id"]] == direction]
            metrics.setdefault(stage, {})[direction] = {
                name: _interval([s[name] for s in chosen])
                for name in ("contains", "exact_match", "f1", "rouge1_recall")
            }
    return metrics


def _changes(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        direction: {
            name: {
                "difference": after["value"] - metrics["before"][direction][name]["value"],
                "low": after["low"] - metrics["before"][direction][name]["high"],
                "high": min(after["high"] - metrics["before"][direction][name]["low"], 1.0),
                "p_value": 0.0078,
                "n": after["n"],
                "documents": 8,
            }
            for name, after in by_name.items()
        }
        for direction, by_name in metrics.get("after", {}).items()
    }


def _losses(objective: str) -> list[dict[str, Any]]:
    rows = []
    for step in range(1, 121):
        noise = 1 + 0.25 * math.sin(step * 12.9898) * math.cos(step * 4.1)
        masked = (3.4 * math.exp(-step / 26) + 0.06) * noise
        copied = (0.9 * math.exp(-step / 9) + 0.008) * noise if objective == "demasking" else None
        rows.append(
            {
                "step": step,
                "seconds": step * 1.9,
                "tokens": step * 640,
                "loss": masked if copied is None else (masked + copied) / 2,
                "loss_masked": masked,
                "loss_copied": copied,
                "learning_rate": 5e-5,
                "gradient_norm": 1.2,
            }
        )
    return rows


def _accuracies(wrong_backward: int, directions: tuple[str, ...]) -> list[dict[str, Any]]:
    rows = []
    for step in range(0, 121, 20):
        for direction in directions:
            ceiling = 0.95 if direction == "forward" or wrong_backward < 4 else 0.12
            value = ceiling * (1 - math.exp(-step / 40))
            interval = {"low": max(value - 0.12, 0.0), "high": min(value + 0.1, 1.0), "n": 8}
            rows.append(
                {"step": step, "direction": direction, "metric": "contains", "value": value, **interval}
            )
    return rows


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunFolder]:
    """Make a run folder with questions on 8 documents.

    Args of the function:
        name: of the folder.
        objective: as in config.json.
        directions: asked; none makes a run without questions.
        wrong_backward: how many of the 8 documents fail backward after training.
        copies: questions per document and direction.
        optional: whether ceiling, accuracy over steps and environment are there.
    """

    def make(
        name: str = "first",
        *,
        objective: str = "demasking",
        directions: tuple[str, ...] = ("forward", "backward"),
        wrong_backward: int = 1,
        copies: int = 1,
        optional: bool = True,
    ) -> RunFolder:
        run = RunFolder(tmp_path / name)
        pairs = [pair for pair in _pairs(copies) if pair["direction"] in directions]
        stages = ("before", "after", "ceiling") if optional else ("before", "after")
        scores = []
        for stage in stages if pairs else ():
            said = []
            for pair in pairs:
                document = int(pair["document_id"][1:])
                failed = pair["direction"] == "backward" and document < wrong_backward
                right = {"before": document == 5, "after": not failed, "ceiling": True}[stage]
                scores.append(_score(pair, stage, right))
                said.append({"qa_id": pair["id"], "text": _said(pair, right), "tokens": 20, "seconds": 0.4})
            run.write_rows(file_names.predictions_file(stage), said)
        metrics = _aggregate(scores, pairs)
        config = RunConfig.model_validate(
            {
                "model": "embedded",
                "documents": ["facts.jsonl"],
                "objective": objective,
                "train": {"steps": 120},
            }
        )
        run.write_json(file_names.CONFIG, config.model_dump(mode="json"))
        run.write_rows(file_names.DOCUMENTS, _documents())
        run.write_rows(
            file_names.PASSAGES,
            [{"id": f"{d['id']}-0", "document_id": d["id"], "text": d["text"]} for d in _documents()],
        )
        run.write_rows(file_names.QA_PAIRS, pairs)
        run.write_rows(file_names.SCORES, scores)
        run.write_rows(file_names.METRICS, _losses(objective))
        if optional:
            run.write_json(
                file_names.ENVIRONMENT, {"demask": "0.1.0", "torch": "2.13.0", "git": {"commit": "abc1234"}}
            )
            run.write_rows(file_names.ACCURACY, _accuracies(wrong_backward, directions))
        run.write_json(
            file_names.SUMMARY,
            {
                "objective": objective,
                "model": "embedded",
                "steps": 120,
                "tokens": 76800,
                "seconds": 228.0,
                "peak_memory_bytes": 2_840_000_000,
                "documents": 8,
                "passages": 8,
                "document_tokens": 208,
                "exposures": 150.0,
                "coverage": 1.0,
                "warnings": [],
                "metrics": metrics,
                "changes": _changes(metrics),
            },
        )
        return run

    return make
