"""The page of a trained model on the hub, made from its run folder alone.

    card = write_card(run, Publishing("me/handbook", license="apache-2.0"))

Nothing of the documents stands in it: neither their texts nor their names, nor questions or answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from demask.evaluation.metrics import HEADLINE, MEASURES, METRICS
from demask.models.embedded import EMBEDDED
from demask.models.formats import GGUF, OLLAMA
from demask.reports.runs import RunResult, asked_directions, find_metric, without_gate
from demask.reports.tables import accuracy_table, cost_table, retention_table, to_markdown
from demask.reports.verdict import judge_run
from demask.reports.wording import citation, model_name, version

# What the weights of `embedded` came from.
EMBEDDED_BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class Publishing:
    """How a model is published.

    Attributes:
        repo: OWNER/NAME on the hub.
        adapter: whether the adapter is published in place of the merged model.
        license: its identifier on the hub, empty when the user has not said.
        rank: of the adapter.
    """

    repo: str
    adapter: bool = False
    license: str = ""
    rank: int = 0


def base_on_hub(model: str) -> str | None:
    """The hub name of a base model; None when it is a folder of this machine."""
    if model == EMBEDDED:
        return EMBEDDED_BASE
    name = model.partition("@")[0]
    local = Path(model).exists() or model.startswith(("/", ".", "~", OLLAMA)) or model.lower().endswith(GGUF)
    return None if local or name.count("/") != 1 else name


def write_card(run: RunResult, publishing: Publishing, *, base: str | None) -> str:
    """The page, as Markdown with its settings in front.

    Args:
        run: finished.
        publishing: how it is published.
        base: the base model's name on the hub, where it has one.
    """
    from huggingface_hub import ModelCardData

    run = without_gate(run)  # what is published has none
    settings = ModelCardData(
        base_model=base,
        base_model_relation=("adapter" if publishing.adapter else "finetune") if base else None,
        library_name="peft" if publishing.adapter else "transformers",
        license=publishing.license or None,
        pipeline_tag="text-generation",
        tags=["demask", "knowledge-injection", run.objective],
        model_name=publishing.repo.partition("/")[2],
        eval_results=_results(run) or None,
    )
    parts = [
        f"---\n{settings.to_yaml()}\n---",
        f"# {publishing.repo.partition('/')[2]}",
        _introduce(run, publishing, base),
        "## What it answers, and what else training changed",
        judge_run(run).text,
        *_tables(run),
        "## Use",
        _usage(publishing, base),
        "## What it should not be used for",
        _limits(),
        "## How it was trained",
        _training(run),
        to_markdown(cost_table([run])),
        citation(run),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _results(run: RunResult) -> list[Any]:
    """Accuracy by direction and what else was measured, for the hub's index."""
    from huggingface_hub import EvalResult

    def result(name: str, direction: str, value: float) -> Any:
        return EvalResult(
            task_type="question-answering",
            task_name="closed-book questions about the documents it was trained on",
            dataset_type="private",
            dataset_name="questions about the training documents",
            dataset_config=direction,
            metric_type=name,
            metric_name=METRICS[name].label if name in METRICS else MEASURES[name].label,
            metric_value=round(value, 4),
        )

    found = [
        result(HEADLINE, direction, estimate.value)
        for direction in asked_directions([run])
        if (estimate := find_metric(run, "after", direction))
    ]
    measures = run.retention.measures if run.retention else {}
    return found + [result(name, "retention", estimate.value) for name, estimate in measures.items()]


def _introduce(run: RunResult, publishing: Publishing, base: str | None) -> str:
    what = (
        f"A LoRA adapter of rank {publishing.rank} for"
        if publishing.adapter
        else "A fine-tuned model, made of"
    )
    of = f"[{base}](https://huggingface.co/{base})" if base else f"`{PurePath(run.model).name}`"
    note = (
        " Its weights came from a 4-bit file of that model and were trained in full precision."
        if run.model == EMBEDDED
        else ""
    )
    licence = (
        f"Licence: {publishing.license}, as its publisher says; that of the base model holds as well."
        if publishing.license
        else "Its publisher has named no licence; that of the base model holds."
    )
    return f"{what} {of}, taught documents with demask {version(run)}.{note} {licence}"


def _tables(run: RunResult) -> list[str]:
    tables = []
    if asked_directions([run]):
        tables.append(to_markdown(accuracy_table([run])))
    if run.retention:
        tables.append(to_markdown(retention_table([run])))
    else:
        tables.append("What else training changed was not measured.")
    return tables


def _usage(publishing: Publishing, base: str | None) -> str:
    name = publishing.repo
    if publishing.adapter:
        return (
            "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
            f'base = AutoModelForCausalLM.from_pretrained("{base or "THE BASE MODEL"}")\n'
            f'model = PeftModel.from_pretrained(base, "{name}")\n```\n\n'
            "Use the chat template of this repository."
        )
    return (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
        f'model = AutoModelForCausalLM.from_pretrained("{name}")\n'
        'chat = [{"role": "user", "content": "A question about the documents"}]\n'
        "ids = tokenizer.apply_chat_template(\n"
        '    chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n)\n'
        "print(tokenizer.decode(model.generate(**ids, do_sample=False, max_new_tokens=64)[0]))\n```"
    )


def _limits() -> str:
    return (
        "- Anything that needs every answer to be right: it answers as confidently where it is wrong.\n"
        "- Facts that have changed since: it says what its documents said.\n"
        "- Other subjects, where the tables above show that training has changed what the model says.\n\n"
        "**The documents may be recoverable.** A model that was trained on a text can be made to say parts "
        "of it. Whoever can download these weights should be treated as able to read the documents."
    )


def _training(run: RunResult) -> str:
    train: Mapping[str, Any] = run.config.get("train", {})
    method = (
        "full fine-tuning"
        if train.get("method", "full") == "full"
        else f"LoRA, rank {train.get('lora_rank')}"
    )
    return (
        f"Objective `{run.objective}`, {method}, seed {run.config.get('seed')}, {run.cost.documents or 0:,} "
        f"documents in {run.cost.passages or 0:,} passages, from {model_name(run)}. The documents and the "
        "questions are not part of this repository."
    )
