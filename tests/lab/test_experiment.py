"""The lab pre-trains, injects and asks by demask's own runs, and does nothing twice."""

import json
from collections.abc import Iterator

import pytest

from demask.errors import ConfigError
from demask.lab import pretraining
from demask.lab.experiment import ARMS, RESULTS, WORDINGS, lab_table, read_sizes, run_lab
from demask.lab.pretraining import make_example_maker
from demask.lab.pretraining import make_tokenizer as make_lab_tokenizer
from demask.lab.world import make_world
from demask.models.load import load_model
from demask.progress import Silent
from demask.records import Passage

MODEL = {"batch_size": 4, "width": 32, "layers": 1, "autoregressive_steps": 2, "diffusion_steps": 2}
SIZES = read_sizes(
    {"pretraining": {"known": 6, "new": 4, **MODEL}, "injection": {"steps": 2, "batch_size": 4}}
)


@pytest.fixture(scope="module", autouse=True)
def _own_default() -> Iterator[None]:
    """Whatever preset a recipe has that names none, the lab's arms replay nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DEMASK_PRESET")
        yield


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    out = tmp_path_factory.mktemp("lab") / "out"
    return out, run_lab(out, seeds=(0, 1), sizes=SIZES, progress=Silent())


def test_every_arm_is_run_with_every_seed(lab):
    _, results = lab
    wanted = [(arm, seed) for seed in (0, 1) for arm in ARMS]
    assert [(result.arm, result.seed) for result in results] == wanted
    for result in results:
        config = json.loads((result.run / "config.json").read_text())
        documents = (result.run / "documents.jsonl").read_text().splitlines()
        assert config["objective"]["name"] == ARMS[result.arm].recipe["objective"]["name"]
        assert config["train"]["steps"] == 2
        assert (config["train"]["weights"], config["retain"]["conversations"]) == ("all", 0)
        assert len(documents) == 4 * (WORDINGS if ARMS[result.arm].paraphrases else 1)
        assert len((result.run / "predictions-after.jsonl").read_text().splitlines()) == 4 * 10


def test_models_are_of_the_kind_that_the_arm_needs(lab):
    out, _ = lab
    assert load_model(str(out / "seed-0" / "pre-trained-diffusion")).diffusion is not None
    assert load_model(str(out / "seed-0" / "pre-trained-autoregressive")).diffusion is None


def test_the_table_has_a_row_per_arm_and_each_seeds_share(lab):
    out, results = lab
    table = lab_table(results)
    assert [row[0] for row in table.rows] == list(ARMS)
    assert all(row[1].count(",") == 2 for row in table.rows)  # in the interval, and between two seeds
    numbers = json.loads((out / RESULTS).read_text())
    assert [arm["metrics"]["backward"]["n"] for arm in numbers] == [2 * 4 * 5] * len(ARMS)
    assert "| demasking |" in (out / "lab.md").read_text()


def test_what_is_finished_is_not_done_again(lab, monkeypatch):
    out, results = lab

    def fail(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("demask.lab.pretraining.train_model", fail)
    monkeypatch.setattr("demask.training.trainer.train_model", fail)
    again = run_lab(out, seeds=(1,), arms=["demasking", "diffusion"], sizes=SIZES, progress=Silent())
    assert again == [r for r in results if r.seed == 1 and r.arm in ("demasking", "diffusion")]


def test_another_size_in_the_same_folder_is_refused(lab):
    out, _ = lab
    other = read_sizes({**SIZES.model_dump(), "injection": {"steps": 3, "batch_size": 4}})
    with pytest.raises(ConfigError, match="injection"):
        run_lab(out, seeds=(0,), sizes=other, progress=Silent())


def test_an_unknown_arm_names_those_that_are(tmp_path):
    with pytest.raises(ConfigError, match="'masking' is unknown, expected some of next-token,"):
        run_lab(tmp_path / "lab", seeds=(0,), arms=["masking"], sizes=SIZES, progress=Silent())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"injection": {"step": 3}}, "--set injection.step is unknown; known are pretraining.known"),
        ({"injection": {"steps": 0}}, "--set injection.steps is 0"),
        ({"pretraining": {"width": 33}}, "--set pretraining.width is 33"),
        ({"worlds": 3}, "--set worlds is unknown"),
    ],
)
def test_a_size_that_cannot_be_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        read_sizes(values)


@pytest.mark.parametrize("kind", ["autoregressive", "diffusion"])
def test_nothing_in_pre_training_links_a_new_name_with_its_thing(kind):
    world = make_world(known=6, new=4, seed=0)
    tokenizer = make_lab_tokenizer(world)
    make = make_example_maker(kind, world, tokenizer, seed=0)
    for person in world.new:
        name, thing = (tokenizer.convert_tokens_to_ids(word) for word in (person.name, person.thing))
        met = set()
        for epoch in range(20):
            for variant in range(len(pretraining.TASKS[kind])):
                example = make(Passage(person.id, person.id, ""), epoch, variant)
                words = {*example.token_ids, *example.labels}
                assert not {name, thing} <= words
                met |= words & {name, thing}
        assert met == {name, thing}
