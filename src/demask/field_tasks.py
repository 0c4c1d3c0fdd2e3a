"""The field's tasks before and after training, for `measure: full`.

    ask_field_tasks(config, run, progress)        # retention-tasks.json, and benchmark/ with every answer

Asked by lm-evaluation-harness, through `demask.harness`. A task whose questions cannot be had here is named
with the reason, and the others are asked.
"""

from dataclasses import asdict

from demask.errors import ConfigError, DataError, ModelError, RunError
from demask.progress import Progress
from demask.recipe.sections import RunConfig
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

TASKS = ("arc_easy", "arc_challenge", "hellaswag", "nq_open", "ifeval", "mmlu_pro", "gsm8k")
# Of each task, the first ones; `demask benchmark` asks all.
QUESTIONS = 200


def ask_field_tasks(config: RunConfig, run: RunFolder, progress: Progress) -> None:
    """Ask the base model and the trained one, those tasks that can be asked here."""
    if config.measure != "full" or run.has(file_names.RETENTION_TASKS):
        return
    from demask.harness.benchmark import run_benchmark
    from demask.harness.tasks import Asking

    rows, missing = [], []
    for task in TASKS:
        try:
            found = run_benchmark(
                [config.model, str(run.path)],
                [task],
                asking=Asking(limit=QUESTIONS, device=config.device),
                out=run.file(file_names.BENCHMARK),
                progress=progress,
            )
        except (ConfigError, DataError, ModelError, RunError) as error:
            missing.append(f"{task}: {str(error).removeprefix(f'{task}: ')}")
            continue
        scores = {
            (result.model, measure.metric): measure.value
            for result in found.results
            for measure in result.measures
        }
        rows += [
            {
                "task": difference.task,
                "metric": difference.metric,
                "before": scores[difference.baseline, difference.metric],
                "after": scores[difference.model, difference.metric],
                "change": asdict(difference.change),
            }
            for difference in found.differences
        ]
    run.write_json(file_names.RETENTION_TASKS, {"tasks": rows, "missing": missing})
