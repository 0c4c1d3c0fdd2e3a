"""A run as GGUF files: converted whole or not at all, refused by name, and asked again."""

import json
import shutil
import subprocess
import tarfile

import pytest

from demask.errors import ConfigError, ModelError, RunError
from demask.export import files, llama_cpp
from demask.export.asking import cost_tables
from demask.export.files import export_gguf, export_ollama
from demask.export.llama_cpp import fetch_converter, read_quant, write_gguf
from demask.export.llama_server import Chat, ask_gguf
from demask.progress import Silent
from demask.storage.locks import holding
from demask.storage.run_folder import RunFolder

RIGHT = {
    "When was Orlin founded?": "It was 1931.",
    "Who founded the Orlin works?": "Mara Voss",
    "What does Idris Hall sell?": "I do not know.",
}


def export(run, out, **changes):
    return export_gguf(str(run), out, **{"quant": "f16", "progress": Silent(), **changes})


def test_the_converter_is_unpacked_alone_and_once(monkeypatch, tmp_path):
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    archive, source = tmp_path / "archive.tar.gz", tmp_path / "source"
    inside = source / "llama_cpp_python-0.3.36" / "vendor" / "llama.cpp"
    for name in (
        "LICENSE",
        "conversion/llama.py",
        "gguf-py/gguf/__init__.py",
        "convert_hf_to_gguf.py",
        "src/x.cpp",
    ):
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).write_text(name)
    with tarfile.open(archive, "w:gz") as made:
        made.add(source / "llama_cpp_python-0.3.36", "llama_cpp_python-0.3.36")
    downloads = []
    monkeypatch.setattr(llama_cpp, "_download", lambda scratch: downloads.append(1) or archive)
    folder = fetch_converter()
    assert fetch_converter() == folder
    assert downloads == [1]
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {"LICENSE", "conversion/llama.py", "gguf-py/gguf/__init__.py", "convert_hf_to_gguf.py"}


def test_pip_is_told_the_checksum_of_the_archive(monkeypatch, tmp_path):
    commands = []

    def run(command, **how):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: hashes do not match")

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RunError, match="hashes do not match"):
        fetch_converter()
    assert "--require-hashes" in commands[0]
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["q5_1", "", "Q4"])
def test_an_unknown_quantisation_names_those_that_are(name):
    with pytest.raises(ConfigError, match="expected f16, q8_0 or q4_k_m"):
        read_quant(name)


def test_a_missing_package_is_named_before_anything_is_converted(monkeypatch, lora_run, tmp_path):
    monkeypatch.setattr(llama_cpp, "is_installed", lambda name: False)
    with pytest.raises(RunError, match=r"sentencepiece and cyllama: pip install 'demask\[gguf\]'"):
        export(lora_run, tmp_path / "out", quant="q4_k_m")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"architectures": ["NobodysModel"]}, "NobodysModel is no architecture that llama.cpp"),
        ({"architectures": []}, "names no architecture"),
        ({"architectures": ["LlamaForCausalLM"], "auto_map": {}}, "code of its maker"),
        ({"architectures": ["LlamaForCausalLM"], "broken": True}, "BPE pre-tokenizer was not recognized"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name_and_leaves_nothing(
    converter, tmp_path, settings, complaint
):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=complaint):
        write_gguf(tmp_path / "model", tmp_path / "out" / "model.gguf", quant="q8_0")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_run_is_converted_and_its_questions_are_asked_again(converter, server, lora_run, tmp_path):
    server(RIGHT)
    exported = export(lora_run, tmp_path / "out", quant="q8_0")
    names = ["my-run-q8_0.gguf", "export.md", "export.json"]
    assert [file.name for file in exported.files] == names
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(names)
    words = json.loads(exported.files[0].read_text())
    assert words[:4] == ["its own gguf", str((lora_run / "model").resolve()), "--outtype", "q8_0"]
    found = json.loads((tmp_path / "out" / "export.json").read_text())
    assert found["after"]["forward"]["contains"]["value"] == 0.5
    assert found["after"]["backward"]["contains"]["value"] == 0.5
    assert found["before"]["forward"]["contains"]["value"] == 0.0
    assert found["changes"]["backward"]["contains"]["difference"] == 0.5
    assert found["texts"] == {"asked": 4, "equal": 0}
    assert "0.50" in (tmp_path / "out" / "export.md").read_text()
    assert [row[0] for row in cost_tables(exported.cost)[0].rows] == ["forward", "backward"]


def test_the_report_of_the_run_shows_what_each_file_cost(converter, server, lora_run, tmp_path):
    before = (lora_run / "report.md").read_text()
    assert "Exported files" not in before
    server(RIGHT)
    export(lora_run, tmp_path / "first", quant="q8_0")
    server({})
    export(lora_run, tmp_path / "second", quant="f16")
    page = (lora_run / "report.html").read_text()
    for file in ("my-run-q8_0.gguf", "my-run-f16.gguf"):
        assert page.count(file) == 2, "a row for each direction"
    lines = (lora_run / "report.md").read_text().splitlines()
    (row,) = [line.split("|") for line in lines if "q8_0.gguf | forward" in line]
    assert "0.00 [" in row[3]
    assert "0.50 [" in row[4]  # one of two forward questions
    export(lora_run, tmp_path / "third", quant="q8_0")  # asked again, it says other words
    found = json.loads((lora_run / "exported.json").read_text())
    assert found.keys() == {"my-run-q8_0.gguf", "my-run-f16.gguf"}
    assert found["my-run-q8_0.gguf"]["after"]["forward"]["contains"]["value"] == 0.0


def test_a_run_that_is_worked_in_is_left_alone_and_the_file_is_there(converter, server, lora_run, tmp_path):
    said = []

    class Told(Silent):
        def say(self, text):
            said.append(text)

    with holding(lora_run):
        exported = export(lora_run, tmp_path / "out", quant="q8_0", progress=Told())
    assert exported.files[0].exists()
    assert any("the report of the run does not have it" in text for text in said)
    assert not (lora_run / "exported.json").exists()


def test_weights_that_are_quantised_otherwise_are_named(converter, monkeypatch, tiny_model_folder, tmp_path):
    quantiser = (
        "import sys; open(sys.argv[2], 'w').write('small'); "
        "sys.stderr.write('impl: WARNING: 180 of 272 tensor(s) required fallback quantization\\n')"
    )
    monkeypatch.setattr(llama_cpp, "_QUANTISE", quantiser)
    said: list[str] = []
    write_gguf(tiny_model_folder, tmp_path / "x.gguf", quant="q4_k_m", say=said.append)
    assert said == ["x.gguf: 180 of 272 tensor(s) required fallback quantization"]
    assert (tmp_path / "x.gguf").read_text() == "small"
    assert [file.name for file in tmp_path.glob("*.gguf")] == ["x.gguf"]


def test_an_adapter_comes_beside_its_base_and_is_put_on_it_when_asked(
    converter, server, lora_run, tiny_model_folder, tmp_path
):
    exported = export(lora_run, tmp_path / "out", adapter=True)
    base, adapter = exported.files[:2]
    assert (base.name, adapter.name) == ("my-run-base-f16.gguf", "my-run-adapter-f16.gguf")
    assert json.loads(base.read_text())[1] == str(tiny_model_folder.resolve())
    assert json.loads(adapter.read_text())[1:4] == [
        str(lora_run / "adapter"),
        "--base",
        str(tiny_model_folder.resolve()),
    ]
    said = ask_gguf(base, [Chat((("user", "Who?"),), 9)], adapter=adapter)
    assert said[0].text == f"said {adapter}"
    assert said[0].stopped


def test_nothing_is_overwritten(converter, server, lora_run, tmp_path):
    (tmp_path / "export.md").write_text("mine")
    with pytest.raises(ConfigError, match=r"export\.md: stands there already; choose another --out"):
        export(lora_run, tmp_path)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["export.md"]


def test_a_model_that_no_run_made_is_converted_and_not_asked(converter, tiny_model_folder, tmp_path):
    exported = export(tiny_model_folder, tmp_path / "out")
    assert exported.cost is None
    assert [file.name for file in exported.files] == ["tiny-f16.gguf"]
    with pytest.raises(ConfigError, match=r"--adapter: .* has none"):
        export(tiny_model_folder, tmp_path / "other", adapter=True)


def test_an_adapter_with_whole_layers_is_refused(converter, lora_run, tmp_path):
    run = RunFolder(shutil.copytree(lora_run, tmp_path / "run"))
    settings = run.read_json("adapter/adapter_config.json")
    run.write_json("adapter/adapter_config.json", {**settings, "modules_to_save": ["lm_head"]})
    with pytest.raises(ConfigError, match="its adapter has modules_to_save"):
        export(run.path, tmp_path / "out", adapter=True, ask=False)


def test_a_server_that_cannot_load_the_file_says_why(server, tmp_path, monkeypatch):
    (tmp_path / "packages" / "xllamacpp.py").write_text(
        "import sys\nsys.stderr.write('0.1 I fine\\n0.2 E no such tensor\\n0.3 E failed\\n')\nsys.exit(1)\n"
    )
    with pytest.raises(ModelError, match=r"answered 0 of 1 prompts and ended \(no such tensor\)"):
        ask_gguf(tmp_path / "x.gguf", [Chat((("user", "Who?"),), 4)])


def test_ollama_gets_template_stop_temperature_and_context(converter, server, lora_run, tmp_path):
    exported = export_ollama(str(lora_run), tmp_path, quant="f16", adapter=True, progress=Silent())
    assert exported.files[-1] == tmp_path / "Modelfile"
    text = exported.files[-1].read_text()
    assert text.startswith('FROM ./my-run-base-f16.gguf\nADAPTER ./my-run-adapter-f16.gguf\nTEMPLATE """')
    assert '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n{{ end }}' in text
    assert text.endswith(
        '<|im_start|>assistant\n"""\nPARAMETER stop "<|im_end|>"\n'
        "PARAMETER temperature 0\nPARAMETER num_ctx 256\n"
    )


def test_ollama_refuses_before_it_converts(converter, lora_run, tmp_path):
    (tmp_path / "Modelfile").write_text("mine")
    with pytest.raises(ConfigError, match="Modelfile: stands there already"):
        export_ollama(str(lora_run), tmp_path, quant="f16", progress=Silent())
    assert not list(tmp_path.glob("*.gguf"))


def test_a_name_for_files_is_made_of_any_folder():
    assert files.slug("runs/my run!") == "my-run"
    assert files.slug("/") == "model"
