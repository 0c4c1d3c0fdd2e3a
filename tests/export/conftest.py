"""A finished LoRA run, and stand-ins for llama.cpp's converter and server."""

import json
import shutil
import sys

import pytest

import demask
from demask.environment import cache_folder
from demask.export import llama_cpp

DOCUMENTS = {
    "orlin": "The Orlin works were founded by Mara Voss in 1931.",
    "quill": "Idris Hall sells ink at Quill.",
}
PAIRS = [
    ("orlin", "When was Orlin founded?", "1931", "forward"),
    ("orlin", "Who founded the Orlin works?", "Mara Voss", "backward"),
    ("quill", "What does Idris Hall sell?", "ink", "forward"),
    ("quill", "Who sells ink at Quill?", "Idris Hall", "backward"),
]
# Writes what it was asked for; `broken` in config.json makes it fail as the real one does.
CONVERTER = """
import json, pathlib, sys
import gguf
words = sys.argv[1:]
settings = json.loads((pathlib.Path(words[0]) / "{settings}").read_text())
if settings.get("broken"):
    raise NotImplementedError("BPE pre-tokenizer was not recognized")
pathlib.Path(words[words.index("--outfile") + 1]).write_text(json.dumps([gguf.NAME, *words]))
"""
# Answers by the last question; what it does not know it does not answer.
SERVER = """
import json
class Lora: pass
class Part: pass
class CommonParams:
    def __init__(self):
        self.model, self.cpuparams, self.lora_adapters = Part(), Part(), []
CommonAdapterLoraInfo = Lora
class Server:
    def __init__(self, settings):
        print("noise of a library")
        self.lora = [one.path for one in settings.lora_adapters]
        self.answers = json.load(open(__file__ + ".json"))
    def handle_chat_completions(self, body):
        assert body["temperature"] == 0
        question = body["messages"][-1]["content"]
        text = self.answers[question] if question in self.answers else " ".join(["said", *self.lora])
        ended = "stop" if len(text.split()) < body["max_tokens"] else "length"
        message = {"role": "assistant", "content": text}
        usage = {"completion_tokens": len(text.split())}
        return json.dumps({"choices": [{"message": message, "finish_reason": ended}], "usage": usage})
"""


@pytest.fixture
def lora_run(made_lora_run, tmp_path):
    """A finished run with an adapter, of which exports are noted."""
    shutil.copytree(made_lora_run, tmp_path / "home" / made_lora_run.name)
    return tmp_path / "home" / made_lora_run.name


@pytest.fixture(scope="session")
def made_lora_run(tiny_model_folder, tmp_path_factory):
    """A finished run with an adapter; not to be changed."""
    home = tmp_path_factory.mktemp("exported")
    (home / "facts").mkdir()
    for name, text in DOCUMENTS.items():
        (home / "facts" / f"{name}.txt").write_text(text)
    rows = [
        {"document_id": document, "question": question, "answers": [answer], "direction": direction}
        for document, question, answer, direction in PAIRS
    ]
    (home / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = demask.inject(
        model=str(tiny_model_folder),
        documents=str(home / "facts"),
        preset="fast",
        qa=str(home / "qa.jsonl"),
        train={"steps": 2, "batch_size": 2, "method": "lora"},
        evaluate={"max_new_tokens": 4},
        out=home / "my run",
    )
    return made.run_folder


@pytest.fixture
def converter(monkeypatch, tmp_path):
    """A stand-in for llama.cpp's converter, in the cache."""
    folder = cache_folder() / llama_cpp.CONVERTER
    (folder / "conversion").mkdir(parents=True, exist_ok=True)
    names = 'TEXT_MODEL_MAP: dict[str, str] = {"LlamaForCausalLM": "llama"}\n'
    (folder / "conversion" / "__init__.py").write_text(names)
    (folder / "gguf-py").mkdir(exist_ok=True)
    (folder / "gguf-py" / "gguf.py").write_text("NAME = 'its own gguf'\n")
    (folder / "convert_hf_to_gguf.py").write_text(CONVERTER.replace("{settings}", "config.json"))
    (folder / "convert_lora_to_gguf.py").write_text(CONVERTER.replace("{settings}", "adapter_config.json"))
    monkeypatch.setattr(llama_cpp, "is_installed", lambda name: True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A stand-in for xllamacpp; gives a function that sets its answers."""
    place = tmp_path / "packages"
    place.mkdir()
    (place / "xllamacpp.py").write_text(SERVER)
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])

    def answer(answers):
        (place / "xllamacpp.py.json").write_text(json.dumps(answers))

    answer({})
    return answer
