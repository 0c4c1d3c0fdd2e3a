"""Grids as `demask reproduce` leaves them, from numbers that a test gives; no model is asked."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demask.storage.run_folder import RunFolder

# Backward questions ask for the entity that a document is about.
ENTITY = "Mara Voss"
ANSWERS = {"forward": "founder of Orlin", "backward": ENTITY}
METRICS = ("contains", "exact_match", "f1", "rouge1_recall")
# step -> (forward, backward): how many of the documents are answered.
Course = Mapping[int, tuple[int, int]]


def write_grid(
    folder: Path,
    arms: Mapping[str, Course | str | None],
    *,
    seeds: Sequence[int] = (0,),
    documents: int = 20,
    ablation: str | None = None,
    **settings: Any,
) -> Path:
    """Write `matrix.json` and a run folder per arm and seed.

    Args:
        folder: of the grid.
        arms: a course makes a finished run, a text the reason of a failed one, None a missing one.
        seeds: every seed has the same course, but answers other documents.
        documents: each has one forward and one backward question.
        ablation: its name.
        settings: of `write_run`.
    """
    cells = []
    for arm, course in arms.items():
        for seed in seeds:
            place = f"embedded/{arm.replace(' ', '-').replace('(', '').replace(')', '')}/seed-{seed}"
            cells.append({"model": "embedded", "arm": arm, "seed": seed, "folder": place})
            if isinstance(course, str):
                failure = folder / f"{place}.failed.json"
                failure.parent.mkdir(parents=True, exist_ok=True)
                failure.write_text(json.dumps({"reason": course}))
            elif course is not None:
                write_run(folder / place, course, documents=documents, first=seed, **settings)
    plan = {"benchmark": "name-description", "facts": documents, "ablation": ablation, "budget": "steps"}
    RunFolder(folder).write_json("matrix.json", {**plan, "cells": cells})
    return folder


def write_run(
    path: Path,
    course: Course,
    *,
    documents: int = 20,
    first: int = 0,
    tokens_per_step: int = 100,
    few_shot: tuple[int, int] | None = None,
    asked_between: bool = True,
) -> None:
    """A finished run whose documents from number `first` on are answered, as many as the course says."""
    run, last = RunFolder(path), max(course)
    pairs = [
        {
            "id": f"{d}-{i}",
            "document_id": f"d{i}",
            "question": f"{d} {i}?",
            "answers": [ANSWERS[d]],
            "direction": d,
        }
        for d in ("forward", "backward")
        for i in range(documents)
    ]

    def scores(right: tuple[int, int]) -> list[dict[str, Any]]:
        return [
            {"qa_id": f"{d}-{(i + first) % documents}", **dict.fromkeys(METRICS, float(i < known))}
            for d, known in zip(("forward", "backward"), right, strict=True)
            for i in range(documents)
        ]

    stages = {"before": course.get(0, (0, 0)), "after": course[last], "ceiling": (documents, documents)}
    if few_shot:
        stages["few-shot"] = few_shot
    run.write_json("config.json", {"model": "embedded", "documents": [], "objective": "demasking"})
    run.write_rows("qa_pairs.jsonl", pairs)
    about = {"text": "Mara Voss is the founder of Orlin.", "metadata": {"entity": ENTITY}}
    run.write_rows("documents.jsonl", [{"id": f"d{i}", **about} for i in range(documents)])
    run.write_rows(
        "scores.jsonl", [{"stage": s, **row} for s, right in stages.items() for row in scores(right)]
    )
    if asked_between:
        rows = [{"step": s, **row} for s, right in course.items() if s for row in scores(right)]
        run.write_rows("steps.jsonl", rows)
    log = [{"step": s, "tokens": s * tokens_per_step, "seconds": s * 2.0, "loss": 1.0} for s in (last,) if s]
    run.write_rows("metrics.jsonl", log)
    cost = {
        "steps": last,
        "tokens": last * tokens_per_step,
        "seconds": last * 2.0,
        "peak_memory_bytes": 10**9,
    }
    numbers = {**cost, "parameters": 1_000_000, "documents": documents, "metrics": {}}
    run.write_json("summary.json", {"objective": "demasking", "model": "embedded", **numbers})
