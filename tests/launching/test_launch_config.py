"""The section `launch` of a recipe, and what is refused before anything starts."""

from typing import Literal, get_args

import pytest

from demask.errors import ConfigError, RunError
from demask.launching.nodes import find_node, find_place
from demask.launching.strategies import CONFIGURATIONS, check_launch, strategy_variables
from demask.recipe.launch import Launch, split_launch

pytestmark = pytest.mark.smoke


def test_the_section_is_taken_out_of_the_recipe() -> None:
    values = {"model": "embedded", "launch": {"processes": 4, "strategy": "fsdp"}}
    rest, launch = split_launch(values)
    assert rest == {"model": "embedded"}
    assert launch == Launch(processes=4, strategy="fsdp")
    assert "launch" in values, "the recipe that was read is another's"


@pytest.mark.parametrize("section", [{}, {"launch": None}, {"launch": {}}])
def test_without_a_section_one_process_trains(section: dict[str, object]) -> None:
    rest, launch = split_launch(section)
    assert (rest, launch.ranks) == ({}, 1)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"proceses": 2}, "r.yaml: unknown key launch.proceses: did you mean 'processes'?"),
        ({"processes": 0}, "r.yaml: launch.processes is 0, expected greater than 0"),
        ({"strategy": "zero"}, "r.yaml: launch.strategy is 'zero', expected 'ddp', 'fsdp' or 'deepspeed'"),
        (3, "r.yaml: launch is 3, expected"),
    ],
)
def test_a_wrong_section_is_named_in_a_line(section: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split_launch({"launch": section}, source="r.yaml")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def check(launch: Launch, *, batch_size: int = 8, evaluates: bool = False) -> None:
    check_launch(launch, batch_size=batch_size, evaluates=evaluates, device="cpu")


def test_a_step_has_an_example_for_every_process() -> None:
    check(Launch(processes=4, nodes=2))
    with pytest.raises(ConfigError, match="batch_size is 7, expected at least one example for each of 8"):
        check(Launch(processes=4, nodes=2), batch_size=7)


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed"])
def test_parts_of_a_model_are_asked_nothing(strategy: Literal["fsdp", "deepspeed"]) -> None:
    with pytest.raises(ConfigError, match=r"train.evaluate_every and train.stop ask a whole one"):
        check(Launch(processes=2, strategy=strategy), evaluates=True)
    check(Launch(processes=2), evaluates=True)


def test_deepspeed_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"needs DeepSpeed: pip install 'demask\[deepspeed\]'"):
        check(Launch(processes=2, strategy="deepspeed"))


def test_deepspeed_without_a_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(RunError, match="needs GPUs, and there is none"):
        check(Launch(processes=2, strategy="deepspeed"))


def test_a_launcher_around_the_command_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"WORLD_SIZE is set, .* set launch.processes"):
        check(Launch())


def test_the_shipped_configurations_reach_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin

    for name, value in strategy_variables("fsdp").items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert "FULL_STATE_DICT" in str(plugin.state_dict_type)
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"


def test_every_strategy_has_its_variables() -> None:
    assert strategy_variables("ddp") == {}
    zero = strategy_variables("deepspeed")
    assert zero["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert zero["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "2"
    assert zero["ACCELERATE_GRADIENT_CLIPPING"] == "auto"
    assert set(CONFIGURATIONS) == set(get_args(Launch.model_fields["strategy"].annotation))


@pytest.mark.parametrize("name", ["NODE_RANK", "SLURM_NODEID"])
def test_the_environment_says_which_node_this_is(name: str) -> None:
    assert find_node(Launch(nodes=3), {name: "2"}) == 2
    assert find_node(Launch(), {name: "2"}) == 0, "one node in a job of several"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "launch.nodes is 2, and nothing says which node this is"),
        ({"NODE_RANK": "2"}, "NODE_RANK is '2', expected 0 to 1"),
        ({"SLURM_NODEID": "-1"}, "SLURM_NODEID is '-1', expected 0 to 1"),
    ],
)
def test_a_node_without_a_number_is_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        find_node(Launch(nodes=2), environment)


def test_the_first_node_is_found_by_its_address() -> None:
    environment = {"NODE_RANK": "1", "MASTER_ADDR": "node-7", "MASTER_PORT": "1234"}
    place = find_place(Launch(nodes=2), environment)
    assert (place.node, place.address, place.port) == (1, "node-7", 1234)
    assert find_place(Launch(nodes=2), {"NODE_RANK": "1", "MASTER_ADDR": "a"}).port == 29500


def test_without_slurm_an_address_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="nothing says where node 0 is; set MASTER_ADDR"):
        find_place(Launch(nodes=2), {"NODE_RANK": "0"})


def test_slurm_names_the_first_node(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$3" = "gpu[3-4]" ] && printf "gpu3\\ngpu4\\n"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    place = find_place(Launch(nodes=2), {"SLURM_NODEID": "1", "SLURM_JOB_NODELIST": "gpu[3-4]"})
    assert (place.node, place.address) == (1, "gpu3")
