"""The examples that demask trains, for other trainers: as token ids, or as prompt and completion.

    written = export_examples(config, Path("out"), form="tokens", epochs=3, progress=progress)

Ids and labels are exact. A text is tokenised anew by the other trainer, and where a prompt's end merges with
the completion's beginning it comes out otherwise; how many do is counted here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from demask.errors import ConfigError, ModelError
from demask.progress import Progress, advancing
from demask.recipe.fine_tuning import SftConfig, TaskConfig
from demask.records import IGNORE_INDEX, Example
from demask.storage.atomic import write_lines, write_text
from demask.storage.run_folder import as_line
from demask.tasks.planning import open_setting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from demask.training.stream import ExposureStream

Form: TypeAlias = Literal["tokens", "text"]
FORMS: tuple[Form, ...] = get_args(Form)
MANIFEST = "examples.json"


@dataclass(frozen=True)
class WrittenExamples:
    """What was written, and what another trainer has to be told; `examples.json`.

    Attributes:
        form: `tokens` or `text`.
        files: one for each epoch, in order; names within the folder.
        model: whose tokenizer it is.
        objective: by which examples were made.
        examples: of all epochs.
        tokens: of all examples.
        scored: of them, those that carry loss.
        differing: of a text, examples that come out with other ids or labels when they are tokenised again.
        batch_size: examples of a step, as demask would train.
        learning_rate: peak, as demask would train.
        seed: of order and masks.
        left_out: what the recipe has besides, and other trainers do not.
    """

    form: Form
    files: tuple[str, ...]
    model: str
    objective: str
    examples: int
    tokens: int
    scored: int
    differing: int
    batch_size: int
    learning_rate: float
    seed: int
    left_out: tuple[str, ...]


def read_form(name: str) -> Form:
    """The form by its name.

    Raises:
        ConfigError: there is no such one.
    """
    for form in FORMS:
        if name == form:
            return form
    raise ConfigError(f"--format: {name!r}, expected {FORMS[0]} or {FORMS[1]}")


def export_examples(
    config: TaskConfig, out: Path, *, form: Form, epochs: int, progress: Progress
) -> WrittenExamples:
    """Write the examples of some epochs, in the order of the run, with fresh masks in each.

    Args:
        config: of a run.
        out: folder for the files, of which none may be there yet.
        form: `tokens` (`input_ids`, `attention_mask`, `labels`) or `text` (`prompt`, `completion`).
        epochs: how many; each is a file.
        progress: told how far the work is.

    Raises:
        ConfigError: the recipe cannot be written so, or a file stands there.
        DemaskError: what would stop the run stops this, too.
    """
    _check_objective(config)
    names = [f"epoch-{epoch + 1}.jsonl" for epoch in range(epochs)]
    for name in (*names, MANIFEST):
        if (out / name).exists():
            raise ConfigError(f"{out / name}: stands there already; choose another --out")
    with open_setting(config, progress) as setting:
        stream: ExposureStream[Any] = setting.stream  # type: ignore[assignment]  # not streamed
        tokenizer, size = setting.context.tokenizer, len(stream.passages) * stream.variants
        progress.begin("Writing examples", size * epochs)
        count = _Count()
        for epoch, name in enumerate(names):
            examples = (stream[place] for place in range(epoch * size, (epoch + 1) * size))
            rows = count.rows(advancing(examples, progress), form, tokenizer)
            write_lines(out / name, (as_line(row) for row in rows))
    written = WrittenExamples(
        form=form,
        files=tuple(names),
        model=config.model,
        objective=config.objective.name,
        examples=count.examples,
        tokens=count.tokens,
        scored=count.scored,
        differing=count.differing,
        batch_size=stream.batch_size,
        learning_rate=_learning_rate(config, stream.batch_size),
        seed=config.seed,
        left_out=tuple(_left_out(config)),
    )
    write_text(out / MANIFEST, json.dumps(asdict(written), indent=2, ensure_ascii=False) + "\n")
    return written


def _check_objective(config: TaskConfig) -> None:
    """Refuse what another trainer's loss cannot do."""
    if config.objective.needs.diffusion:
        raise ConfigError(
            f"objective {config.objective.name}: its loss is that of masked-diffusion models, which these "
            "trainers do not have; expected an objective for autoregressive ones"
        )
    if isinstance(config, SftConfig) and config.stream:
        raise ConfigError("stream: true has no epochs to write; expected stream: false")


def _left_out(config: TaskConfig) -> Iterator[str]:
    if config.retain.conversations:
        yield (
            f"retain: {config.retain.conversations} replayed conversations a step, their KL term, and "
            "prompts wrapped in other text"
        )
    if config.retain.budget is not None:
        yield "retain.budget: weights that go back towards the base"


def _learning_rate(config: TaskConfig, batch_size: int) -> float:
    from demask.models.load import count_parameters
    from demask.training.plan import choose_learning_rate

    return choose_learning_rate(
        config.train,
        parameters=count_parameters(config.model),
        batch_size=batch_size,
        rate_share=config.rate_share,
    )


@dataclass
class _Count:
    """What has gone by."""

    examples: int = 0
    tokens: int = 0
    scored: int = 0
    differing: int = 0

    def rows(
        self, examples: Iterator[Example], form: Form, tokenizer: "PreTrainedTokenizerBase"
    ) -> Iterator[Mapping[str, Any]]:
        """A row for each example, counted."""
        for example in examples:
            self.examples += 1
            self.tokens += len(example.token_ids)
            self.scored += sum(label != IGNORE_INDEX for label in example.labels)
            if form == "tokens":
                yield tokens_row(example)
            else:
                row = text_row(example, tokenizer)
                self.differing += not is_same_again(example, row, tokenizer)
                yield row


def tokens_row(example: Example) -> dict[str, list[int]]:
    """As trainers take what is tokenised already; labels stand at their own places, not shifted."""
    return {
        "input_ids": list(example.token_ids),
        "attention_mask": [1] * len(example.token_ids),
        "labels": list(example.labels),
    }


def text_row(example: Example, tokenizer: "PreTrainedTokenizerBase") -> dict[str, str]:
    """Prompt and completion, special tokens by their names.

    Raises:
        ModelError: what carries loss is no completion, but stands within the prompt.
    """
    begin = next((place for place, label in enumerate(example.labels) if label != IGNORE_INDEX), 0)
    if IGNORE_INDEX in example.labels[begin:]:
        raise ModelError(
            f"example {example.id}: tokens without loss stand behind some with it, so it is not prompt and "
            "completion; use --format tokens"
        )
    return {
        "prompt": _decode(tokenizer, example.token_ids[:begin]),
        "completion": _decode(tokenizer, example.token_ids[begin:]),
    }


def _decode(tokenizer: "PreTrainedTokenizerBase", ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def is_same_again(example: Example, row: Mapping[str, str], tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a text comes out as the example, tokenised as TRL does: the prompt alone, and all of it."""
    prompt: list[int] = tokenizer(row["prompt"])["input_ids"]
    whole: list[int] = tokenizer(row["prompt"] + row["completion"])["input_ids"]
    labels = [IGNORE_INDEX] * len(prompt) + whole[len(prompt) :]
    return whole == list(example.token_ids) and labels == list(example.labels)
