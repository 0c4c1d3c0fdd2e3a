"""A run pushed to a hub on this machine, and loaded back from it; and the page that is made of it."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import load_file
from tests.export.conftest import DOCUMENTS, PAIRS
from tests.export.loopback_hub import serving_hub

from demask.errors import ConfigError
from demask.export.hub import push
from demask.export.model_card import Publishing, base_on_hub, write_card
from demask.progress import Silent
from demask.reports.runs import load_run
from demask.storage.run_folder import open_run_folder

# Pushes, pushes again, and loads what is there.
SCRIPT = """
import json, sys
from demask.errors import ConfigError
from demask.export.hub import push
from demask.progress import Silent
run, out = sys.argv[1:]
found = {"address": push(run, "me/handbook", license="apache-2.0", progress=Silent())}
push(run, "me/adapter", adapter=True, public=True, progress=Silent())
try:
    push(run, "me/handbook", progress=Silent())
except ConfigError as error:
    found["again"] = str(error)
from transformers import AutoModelForCausalLM, AutoTokenizer
from safetensors.torch import save_file
model = AutoModelForCausalLM.from_pretrained("me/handbook")
tokenizer = AutoTokenizer.from_pretrained("me/handbook")
chat = [{"role": "user", "content": "Who?"}]
found["prompt"] = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
save_file({name: w.contiguous() for name, w in model.state_dict().items() if name != "lm_head.weight"}, out)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def pushed(made_lora_run, tmp_path_factory):
    """The hub after both pushes, what the script said, and the weights that it loaded."""
    home = tmp_path_factory.mktemp("hub")
    with serving_hub() as hub:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(home / "cache"),
            "HF_TOKEN": "hf_none",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "*",
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(made_lora_run), str(home / "loaded.safetensors")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return hub, json.loads(done.stdout.splitlines()[-1]), load_file(home / "loaded.safetensors")


def card_of(hub, repo):
    front, text = hub.files[repo, "README.md"].decode().split("---\n", 2)[1:]
    return yaml.safe_load(front), text


def test_what_is_loaded_from_the_hub_is_what_was_trained(pushed, made_lora_run):
    _, said, loaded = pushed
    stored = load_file(made_lora_run / "model" / "model.safetensors")
    assert set(loaded) == set(stored) - {"lm_head.weight"}
    assert all((loaded[name] == stored[name]).all() for name in loaded)
    assert said["prompt"] == "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"


def test_a_push_is_private_unless_told_otherwise_and_refuses_what_is_there(pushed):
    hub, said, _ = pushed
    assert hub.private == {"me/handbook": True, "me/adapter": False}
    assert said["address"].endswith("/me/handbook")
    assert said["again"].startswith("--repo: me/handbook stands there already")


def test_only_the_model_and_its_page_leave_the_machine(pushed):
    hub, _, _ = pushed
    names = {path for repo, path in hub.files if repo == "me/handbook"}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert not [name for name in names if name.endswith(".jsonl")]
    adapter = {path for repo, path in hub.files if repo == "me/adapter"}
    assert adapter == {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "README.md"}


def test_nothing_of_documents_and_questions_stands_on_the_page(pushed):
    hub, _, _ = pushed
    for repo in ("me/handbook", "me/adapter"):
        page = hub.files[repo, "README.md"].decode()
        told = [*DOCUMENTS.values(), *(text for pair in PAIRS for text in pair[1:3]), "orlin.txt"]
        assert not [text for text in told if text in page]
        assert "documents may be recoverable" in page


def test_the_page_was_validated_and_has_results_in_both_directions(pushed):
    hub, _, _ = pushed
    pages = {hub.files[repo, "README.md"].decode() for repo in hub.private}
    assert set(hub.cards) == pages
    settings, text = card_of(hub, "me/handbook")
    assert (settings["license"], settings["library_name"]) == ("apache-2.0", "transformers")
    assert "base_model" not in settings  # a folder of this machine
    (model,) = settings["model-index"]
    directions = [result["dataset"]["config"] for result in model["results"]]
    assert directions == ["forward", "backward"]
    assert "| demasking | forward |" in text
    assert "| demasking | backward |" in text
    assert "What it should not be used for" in text
    settings, text = card_of(hub, "me/adapter")
    assert settings["library_name"] == "peft"
    assert "named no licence" in text


def test_a_base_on_the_hub_is_named_with_its_relation(made_lora_run):
    run = load_run(open_run_folder(made_lora_run))
    for adapter, relation in ((False, "finetune"), (True, "adapter")):
        page = write_card(run, Publishing("me/x", adapter, rank=32), base="owner/base")
        settings = yaml.safe_load(page.split("---\n", 2)[1])
        assert (settings["base_model"], settings["base_model_relation"]) == ("owner/base", relation)


def test_base_models_are_told_from_folders():
    assert base_on_hub("embedded") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert base_on_hub("owner/base@abc") == "owner/base"
    assert [base_on_hub(name) for name in ("/models/a", "./a/b", "model", "a/b/c")] == [None] * 4


@pytest.mark.parametrize("repo", ["handbook", "me/hand book", "me//x", "/x", "me/"])
def test_a_name_that_is_none_of_the_hub_is_refused(made_lora_run, repo):
    with pytest.raises(ConfigError, match="expected OWNER/NAME"):
        push(str(made_lora_run), repo, progress=Silent())
