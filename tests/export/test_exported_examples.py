"""Training data for other trainers: the very examples of a run, or how many differ."""

import json
from pathlib import Path

import pytest
import torch

import demask
from demask.errors import ConfigError
from demask.export.examples import export_examples
from demask.progress import Silent
from demask.recipe.sections import make_config
from demask.records import IGNORE_INDEX
from demask.tasks.planning import open_setting

ROOT = Path(demask.__file__).parents[2]
QUICKSTART, HANDBOOK = (
    Path(demask.__file__).parent / "quickstart" / "documents.jsonl",
    ROOT / "docs" / "handbook",
)
TEXTS = {
    "orlin": "The Orlin works were founded by Mara Voss in 1931, and in 1958 her son sold them.",
    "quill": "Idris Hall sells ink at Quill.",
    "sable": "Noor Cast built Sable. It stands on Ferro, and the bridge crosses the river.",
}


@pytest.fixture(scope="module")
def make_recipe(tiny_model_folder, tmp_path_factory):
    facts = tmp_path_factory.mktemp("data") / "facts"
    facts.mkdir()
    for name, text in TEXTS.items():
        (facts / f"{name}.txt").write_text(text)

    def make(**changes):
        values = {"model": str(tiny_model_folder), "documents": [str(facts)], "preset": "fast"}
        return make_config({**values, "train": {"batch_size": 3}, **changes})

    return make


def export(config, out, **changes):
    return export_examples(config, out, **{"form": "tokens", "epochs": 3, "progress": Silent(), **changes})


def rows(out, name):
    return [json.loads(line) for line in (out / name).read_text(encoding="utf-8").splitlines()]


def test_tokens_are_the_examples_of_the_run_in_its_order(make_recipe, tmp_path):
    config = make_recipe()
    written = export(config, tmp_path)
    found = [row for name in written.files for row in rows(tmp_path, name)]
    with open_setting(config, Silent()) as setting:
        examples = [setting.stream[place] for place in range(len(found))]
    assert [row["input_ids"] for row in found] == [list(example.token_ids) for example in examples]
    assert [row["labels"] for row in found] == [list(example.labels) for example in examples]
    assert all(row["attention_mask"] == [1] * len(row["input_ids"]) for row in found)
    assert (written.examples, written.batch_size) == (len(found), 3)
    assert written.scored == sum(label != IGNORE_INDEX for row in found for label in row["labels"])
    assert json.loads((tmp_path / "examples.json").read_text())["tokens"] == written.tokens


def test_each_epoch_has_every_document_with_fresh_masks(make_recipe, tmp_path):
    written = export(make_recipe(), tmp_path)
    epochs = [rows(tmp_path, name) for name in written.files]
    assert written.files == ("epoch-1.jsonl", "epoch-2.jsonl", "epoch-3.jsonl")
    assert len({len(epoch) for epoch in epochs}) == 1
    prompts = [{tuple(row["input_ids"]) for row in epoch} for epoch in epochs]
    assert prompts[0] != prompts[1] != prompts[2]


def test_a_text_is_prompt_and_completion_and_what_differs_is_counted(make_recipe, tiny_tokenizer, tmp_path):
    written = export(make_recipe(), tmp_path / "text", form="text")
    exact = export(make_recipe(), tmp_path / "tokens")
    differing = 0
    for name in written.files:
        for text, row in zip(rows(tmp_path / "text", name), rows(tmp_path / "tokens", name), strict=True):
            whole = tiny_tokenizer(text["prompt"] + text["completion"])["input_ids"]
            begin = len(tiny_tokenizer(text["prompt"])["input_ids"])
            labels = [IGNORE_INDEX] * begin + whole[begin:]
            differing += (whole, labels) != (row["input_ids"], row["labels"])
            assert text["completion"].endswith("<|im_end|>")
    assert written.differing == differing
    assert exact.differing == 0


def test_what_other_trainers_lack_is_named(make_recipe, tmp_path):
    kept = make_recipe(preset="keep")
    (first, *_) = export(kept, tmp_path, epochs=1).left_out
    assert first.startswith(f"retain: {kept.retain.conversations} replayed conversations a step")


def test_nothing_is_overwritten(make_recipe, tmp_path):
    (tmp_path / "epoch-2.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match=r"epoch-2\.jsonl: stands there already"):
        export(make_recipe(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["epoch-2.jsonl"]


def test_a_loss_that_no_other_trainer_has_is_refused(make_recipe, tmp_path):
    with pytest.raises(ConfigError, match="objective diffusion: its loss is that of masked-diffusion"):
        export(make_recipe(objective="diffusion"), tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("preset", ["fast", "paper"])
@pytest.mark.parametrize("documents", [None, QUICKSTART, HANDBOOK], ids=["facts", "quickstart", "handbook"])
def test_trl_trains_on_the_same_ids_labels_and_loss(
    make_recipe, make_model, tiny_tokenizer, tmp_path, preset, documents
):
    pytest.importorskip("trl")
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    read = {"documents": [str(documents)]} if documents else {}
    written = export(make_recipe(preset=preset, **read), tmp_path / "tokens", epochs=1)
    file = str(tmp_path / "tokens" / written.files[0])
    settings = SFTConfig(
        output_dir=str(tmp_path / "trl"),
        per_device_train_batch_size=3,
        max_steps=1,
        max_length=None,
        packing=False,
        shuffle_dataset=False,
        learning_rate=0.0,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        bf16=False,
        save_strategy="no",
    )
    data = load_dataset("json", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    trainer = SFTTrainer(
        model=make_model(), args=settings, train_dataset=data, processing_class=tiny_tokenizer
    )
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(trainer.train_dataset)
    exact = rows(tmp_path / "tokens", written.files[0])
    prepared = [dict(row) for row in trainer.train_dataset]
    assert [row["input_ids"] for row in prepared] == [row["input_ids"] for row in exact]
    assert [row["labels"] for row in prepared] == [row["labels"] for row in exact]
    trainer.train()
    model, nats, tokens = make_model(), 0.0, 0
    for row in exact[:3]:
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        labels = torch.tensor(row["labels"][1:])
        nats += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum").detach())
        tokens += int((labels != IGNORE_INDEX).sum())
    assert trainer.state.log_history[0]["loss"] == pytest.approx(nats / tokens, abs=1e-4)
