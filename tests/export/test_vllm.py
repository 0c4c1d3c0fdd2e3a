"""The lines for vLLM name every option without which it would refuse or answer otherwise."""

import contextlib
import shlex
import shutil

import pytest

from demask import cli
from demask.errors import ConfigError, RunError
from demask.export.vllm import serve_lines
from demask.storage.run_folder import RunFolder


def test_the_merged_model_is_served_by_the_name_of_its_run(lora_run):
    (line,) = serve_lines(str(lora_run))
    model = str((lora_run / "model").resolve())
    assert shlex.split(line) == ["vllm", "serve", model, "--served-model-name", "my-run"]


@pytest.mark.parametrize(("rank", "wanted"), [(32, "32"), (24, "32"), (512, "512")])
def test_an_adapter_is_served_on_its_base_with_rank_and_template(
    lora_run, tiny_model_folder, tmp_path, rank, wanted
):
    run = RunFolder(shutil.copytree(lora_run, tmp_path / "run"))
    run.write_json("adapter/adapter_config.json", {**run.read_json("adapter/adapter_config.json"), "r": rank})
    words = shlex.split(serve_lines(str(run.path), adapter=True)[0])
    assert words[2] == str(tiny_model_folder.resolve())
    assert words[words.index("--max-lora-rank") + 1] == wanted
    assert f"run={run.path}/adapter" in words
    assert words[words.index("--chat-template") + 1] == f"{run.path}/model/chat_template.jinja"


def test_a_rank_beyond_what_vllm_knows_is_refused(lora_run, tmp_path):
    run = RunFolder(shutil.copytree(lora_run, tmp_path / "run"))
    run.write_json("adapter/adapter_config.json", {**run.read_json("adapter/adapter_config.json"), "r": 513})
    with pytest.raises(ConfigError, match="rank 513 is above vLLM's 512"):
        serve_lines(str(run.path), adapter=True)


@pytest.mark.parametrize(("leak", "says"), [(0.47, True), (0.02, False), (None, False)])
def test_whoever_exports_a_model_that_recites_without_its_gate_is_told(
    lora_run, tmp_path, leak, says, monkeypatch, capsys
):
    run = RunFolder(shutil.copytree(lora_run, tmp_path / "run"))
    ungated = {} if leak is None else {"leak": {"value": leak, "low": 0.0, "high": 1.0, "n": 34}}
    run.write_json("retention.json", {"ungated": ungated})
    monkeypatch.setattr("sys.argv", ["demask", "export", str(run.path), "--to", "vllm"])
    with contextlib.suppress(SystemExit):
        cli.main()
    out, said = capsys.readouterr()
    assert out.startswith("vllm serve ")
    assert ("47% of 34 unrelated prompts with a document" in said) == says
    assert ("--preset keep" in said) == says


def test_a_run_that_is_not_finished_says_so(lora_run, tmp_path):
    shutil.copytree(lora_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    with pytest.raises(RunError, match="removed"):
        serve_lines(str(tmp_path / "run"))
