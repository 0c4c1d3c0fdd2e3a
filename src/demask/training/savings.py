"""What would make a long training shorter, as settings of the recipe.

for line in find_savings(config.train, seconds, device="cpu", what="documents"): print(line)
"""

from demask.recipe.sections import Train

# Seconds of training from which on people look for something shorter.
LONG = 2 * 3600.0


def find_savings(
    train: Train, seconds: float | None, *, device: str, what: str, exposures: float | None = None
) -> tuple[str, ...]:
    """What helps, what saves most first; nothing where training is short or nobody knows how long it is.

    Args:
        train: the recipe's section.
        seconds: of training; None: not measured.
        device: `cpu` or `cuda`.
        what: is trained on: `documents` or `samples`.
        exposures: of each passage; None: not known.
    """
    if seconds is None or seconds < LONG:
        return ()
    found = ["a GPU: the same command uses one that PyTorch sees"] if device == "cpu" else []
    half = _halve(train, exposures)
    if half:
        found.append(f"fewer exposures: --set {half} takes half the time")
    if train.method == "full":
        found.append(
            "an adapter: --set train.method=lora asks for two thirds of the operations, and less memory"
        )
    found.append(f"fewer {what}")
    if device != "cpu":
        found.append("more GPUs: --set launch.processes=N")
    return tuple(found)


def _halve(train: Train, exposures: float | None) -> str:
    """The setting that halves the length, of the two that exclude each other; empty where none does."""
    if train.steps is not None:
        return f"train.steps={train.steps // 2}" if train.steps > 1 else ""
    epochs = exposures or train.epochs
    return f"train.epochs={epochs / 2:.3g}" if epochs else ""
