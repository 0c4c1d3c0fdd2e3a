"""What another program has not: the gate before a trained model.

print(describe_recital("runs/first"))     # None, or one line
"""

from pathlib import Path
from typing import Any

from demask.storage import file_names
from demask.storage.run_folder import RunFolder

# Share of unrelated prompts from which on a model without its gate is said to recite.
RECITES = 0.05


def describe_recital(run: str | Path) -> str | None:
    """One line where the model of a run recites its documents without the gate, which no file can have.

    Args:
        run: a run folder; of any other folder nothing is known.
    """
    folder = RunFolder(Path(run))
    if not folder.has(file_names.RETENTION):
        return None
    retention: Any = folder.read_json(file_names.RETENTION)
    leak = (retention.get("ungated") or {}).get("leak") if isinstance(retention, dict) else None
    if not leak or leak["value"] < RECITES:
        return None
    return (
        f"{run}: without its gate, which other programs do not have, this model answers "
        f"{leak['value']:.0%} of {leak['n']} unrelated prompts with a document; ask it through "
        f"`demask serve {run}`, or train with --preset keep, whose weights keep more by themselves"
    )
