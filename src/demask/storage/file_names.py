"""Names of the files in a run folder; each is left by one stage.

run.has(file_names.SUMMARY)
"""

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
DOCUMENTS = "documents.jsonl"
PASSAGES = "passages.jsonl"
QA_PAIRS = "qa_pairs.jsonl"
REJECTS = "rejects.jsonl"
AUDIT = "audit.json"
PARAPHRASES = "paraphrases.jsonl"
COVERAGE = "coverage.json"
METRICS = "metrics.jsonl"
ACCURACY = "accuracy.jsonl"
STEP_SCORES = "steps.jsonl"
SCORES = "scores.jsonl"
TRAINING = "training.json"
SUMMARY = "summary.json"
DATA = "data.json"
HELD_OUT = "held_out.jsonl"
REPLAY = "replay.safetensors"
RETENTION_BEFORE = "retention-before.jsonl"
RETENTION_AFTER = "retention-after.jsonl"
RETENTION_TARGETS = "retention-targets.safetensors"
RETENTION = "retention.json"
RETENTION_TASKS = "retention-tasks.json"
BENCHMARK = "benchmark"
REPORT_HTML = "report.html"
REPORT_MARKDOWN = "report.md"
CHECKPOINTS = "checkpoints"
MODEL = "model"
ADAPTER = "adapter"


def predictions_file(stage: str) -> str:
    """The file with what the model said `before`, `after`, or with the document in the prompt (`ceiling`)."""
    return f"predictions-{stage}.jsonl"
