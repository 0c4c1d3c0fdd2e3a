"""Models that are no folder of safetensors: GGUF files, Ollama's blobs, adapters on their base, pinned "
"hub names."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.gguf_files import write_gguf

from demask.errors import ModelError
from demask.evaluation.qa import answers_key
from demask.models import load as load_module
from demask.models.fingerprints import fingerprint_model
from demask.models.formats import split_revision
from demask.models.load import describe_form, load_architecture, load_model, load_tokenizer, locate_model
from demask.recipe.sections import Evaluate

ODD = {"rms_norm_eps": 3e-3, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))


def logits(model: Any, size: int = 20) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(5, 5 + size)[None]).logits


def shaken(model: Any) -> Any:
    """Norms and biases as no initialisation leaves them, in numbers that float16 has, too."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_((weights + 0.05 * torch.randn_like(weights)).half())
    return model.eval()


@pytest.fixture
def llama_file(make_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    return write_gguf(
        tmp_path / "tiny.gguf", shaken(make_model(**ODD)), tiny_tokenizer, arch="llama", kind="F16"
    )


def refuse(name: Path | str, *said: str) -> None:
    for load in (load_model, load_tokenizer, load_architecture):
        with pytest.raises(ModelError) as caught:
            load(str(name))
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 600
        assert message.startswith(str(name))
        for part in said:
            assert part in message, message


@pytest.mark.parametrize(
    ("kind", "stored"), [("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)]
)
def test_a_llama_comes_out_of_its_file_as_it_was(
    kind: str, stored: torch.dtype, make_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    model = shaken(make_model(**ODD))
    if kind == "BF16":
        model = model.bfloat16().float()
    path = write_gguf(tmp_path / "tiny.gguf", model, tiny_tokenizer, arch="llama", kind=kind)
    loaded = load_model(str(path), device="cpu")
    assert torch.allclose(logits(loaded.model), logits(model), atol=1e-5)
    assert (loaded.stored_dtype, loaded.name) == (stored, str(path))
    text = "Mara Voss founded it in 1931,  didn't she?\n<|im_start|>user"
    assert loaded.tokenizer(text).input_ids == tiny_tokenizer(text).input_ids
    assert loaded.tokenizer.chat_template == tiny_tokenizer.chat_template
    assert (loaded.tokenizer.eos_token_id, loaded.model.config.eos_token_id) == (
        tiny_tokenizer.eos_token_id,
    ) * 2


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_qwen_comes_out_of_its_file_as_it_was(family: str, tiny_tokenizer: Any, tmp_path: Path) -> None:
    import transformers

    kinds = {"qwen2": "Qwen2", "qwen3": "Qwen3"}
    sizes = {
        "vocab_size": len(tiny_tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
    }
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    own = {"head_dim": 16} if family == "qwen3" else {}
    config = getattr(transformers, f"{kinds[family]}Config")(
        **sizes, **heads, **own, **ODD, tie_word_embeddings=True
    )
    model = shaken(getattr(transformers, f"{kinds[family]}ForCausalLM")(config))
    path = write_gguf(tmp_path / "tiny.gguf", model, tiny_tokenizer, arch=family)
    assert torch.allclose(logits(load_model(str(path), device="cpu").model), logits(model), atol=1e-5)


def test_quantised_weights_are_those_that_the_file_stands_for_and_it_is_said(
    make_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    model = shaken(make_model(**ODD))
    path = write_gguf(tmp_path / "tiny.gguf", model, tiny_tokenizer, arch="llama", kind="Q8_0")
    loaded = load_model(str(path), device="cpu")
    for name, weights in loaded.model.named_parameters():
        before = model.get_parameter(name)
        # A step of Q8_0 is the largest of 32 numbers over 127; half of it, and float16's own rounding.
        assert (weights - before).abs().max() <= before.abs().max() / 127 * 0.51 + 1e-3
    assert describe_form(str(path)) == (
        f"{path}: a GGUF file of architecture llama (Q8_0, de-quantised); read as float16"
    )


def test_scaled_positions_of_llama_3_are_found_again(
    make_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    import gguf
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 1.0}
    scaled |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    model = shaken(make_model(hidden_size=256, rope_parameters=scaled))
    plain = make_model(hidden_size=256, rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    frequencies = [model.model.rotary_emb.inv_freq, plain.model.rotary_emb.inv_freq]
    assert "llama3" in ROPE_INIT_FUNCTIONS
    add = gguf.GGUFWriter.write_header_to_file
    factors = (frequencies[1] / frequencies[0]).numpy().astype("float32")
    path = tmp_path / "tiny.gguf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            gguf.GGUFWriter,
            "write_header_to_file",
            lambda writer: (writer.add_tensor("rope_freqs.weight", factors), add(writer)),
        )
        write_gguf(path, model, tiny_tokenizer, arch="llama")
        loaded = load_model(str(path), device="cpu")
        assert loaded.model.config.rope_parameters["factor"] == 32.0
        assert torch.allclose(logits(loaded.model, 200), logits(model, 200), atol=1e-5)
        factors = factors * 1.1
        write_gguf(tmp_path / "other.gguf", model, tiny_tokenizer, arch="llama")
    refuse(tmp_path / "other.gguf", "positions are scaled (rope_freqs.weight) otherwise than in Llama 3")


def test_evaluating_a_file_says_what_it_was_and_calls_it_by_its_name(
    llama_file: Path, tmp_path: Path
) -> None:
    from demask.progress import Silent
    from demask.tasks.evaluate import evaluate

    remarks: list[str] = []

    class Told(Silent):
        def say(self, text: str) -> None:
            remarks.append(text)

    pair = {"document_id": "d", "question": "Who?", "answers": ["Mara Voss"], "direction": "backward"}
    (tmp_path / "qa.jsonl").write_text(json.dumps(pair))
    found = evaluate(str(llama_file), tmp_path / "qa.jsonl", settings={"max_new_tokens": 2}, progress=Told())
    assert found.model == str(llama_file)
    assert remarks == [describe_form(str(llama_file))]


def test_a_file_is_converted_once_and_another_of_its_name_is_another_model(
    llama_file: Path, make_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_model(str(llama_file), device="cpu")
    place = locate_model(str(llama_file))
    with monkeypatch.context() as patch:
        patch.setattr("demask.models.formats._convert", lambda *_: pytest.fail("converted again"))
        load_model(str(llama_file), device="cpu")
    marks = [fingerprint_model(str(llama_file)), answers_key(first, [[5, 6]], Evaluate())]
    write_gguf(llama_file, shaken(make_model(seed=3)), tiny_tokenizer, arch="llama", kind="F16")
    second = load_model(str(llama_file), device="cpu")
    assert locate_model(str(llama_file)) != place
    assert fingerprint_model(str(llama_file)) != marks[0]
    assert answers_key(second, [[5, 6]], Evaluate()) != marks[1]


def test_what_is_no_gguf_file_is_refused(llama_file: Path, tmp_path: Path) -> None:
    for content, said in (
        (b"PK\x03\x04 a zip", "not a GGUF file (it begins with b'PK\\x03\\x04')"),
        (b"", "not a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ):
        (tmp_path / "no.gguf").write_bytes(content)
        refuse(tmp_path / "no.gguf", said)
    refuse(tmp_path / "gone.gguf", "no such file")
    with pytest.raises(ModelError, match=r"gone.gguf: no such file; expected a model folder, a GGUF file"):
        load_model("gone.gguf")


@pytest.mark.parametrize("share", [0.999, 0.5, 0.001])
def test_a_file_that_is_cut_short_is_refused(share: float, llama_file: Path) -> None:
    whole = llama_file.read_bytes()
    llama_file.write_bytes(whole[: max(5, int(len(whole) * share))])
    refuse(llama_file, "the GGUF file is damaged or cut short", "fetch it again")


@pytest.mark.parametrize(
    ("arch", "changes", "said"),
    [
        ("nemo9", {}, "a GGUF file of architecture 'nemo9', expected one of llama, qwen2, qwen3"),
        ("llama", {"general.type": "adapter"}, "a GGUF file with 'adapter', expected a whole model"),
        (
            "llama",
            {"split.count": 3},
            "one of 3 parts; join them with llama.cpp's 'llama-gguf-split --merge'",
        ),
        ("llama", {"llama.expert_count": 8}, "a mixture of experts"),
        (
            "llama",
            {"llama.rope.scaling.type": "yarn"},
            "positions are scaled (llama.rope.scaling.type is 'yarn')",
        ),
        (
            "llama",
            {"tokenizer.ggml.pre": "deepseek-llm"},
            "tokenizer (gpt2, tokenizer.ggml.pre 'deepseek-llm')",
        ),
        ("llama", {"tokenizer.ggml.pre": ""}, "tokenizer (gpt2, tokenizer.ggml.pre None)"),
        ("llama", {"tokenizer.ggml.model": "rwkv"}, "tokenizer (rwkv,"),
        ("llama", {"llama.block_count": 1}, "some would be lost"),
    ],
)
def test_what_would_come_out_otherwise_is_refused_by_name(
    arch: str, changes: dict[str, Any], said: str, make_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", make_model(), tiny_tokenizer, arch=arch, **changes)
    refuse(path, said)
    assert not list((tmp_path / "cache").glob("models/*"))


def test_biases_that_the_model_has_no_place_for_are_not_lost(
    make_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", make_model(attention_bias=True), tiny_tokenizer, arch="llama")
    refuse(path, "some would be lost, so give the model that it was made of")


def test_a_folder_of_gguf_files_points_at_one(llama_file: Path) -> None:
    refuse(llama_file.parent, "no config.json", f"or one of its files, such as {llama_file}")


@pytest.fixture
def ollama(llama_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ollama's folder with one model, `tiny:1b`; the function returns where its manifest stands."""
    place = tmp_path / "ollama"
    monkeypatch.setenv("OLLAMA_MODELS", str(place))
    (place / "blobs").mkdir(parents=True)
    shutil.copy(llama_file, place / "blobs" / "sha256-abc")
    manifest = place / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "1b"
    manifest.parent.mkdir(parents=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:def"},
        {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:abc"},
    ]
    manifest.write_text(json.dumps({"layers": layers}))
    return manifest


def test_a_model_of_ollama_is_found_by_its_name(ollama: Path, llama_file: Path) -> None:
    loaded, file = (load_model(name, device="cpu") for name in ("ollama:tiny:1b", str(llama_file)))
    assert torch.equal(logits(loaded.model), logits(file.model))
    shutil.copytree(ollama.parents[1], ollama.parents[2] / "someone")
    (ollama.parents[2] / "someone" / "tiny" / "1b").rename(ollama.parents[2] / "someone" / "tiny" / "latest")
    assert locate_model("ollama:someone/tiny") == locate_model("ollama:tiny:1b")
    assert str(describe_form("ollama:tiny:1b")).startswith(
        "ollama:tiny:1b: a GGUF file of architecture llama (F16)"
    )


def test_what_ollama_does_not_have_is_refused_with_what_it_has(ollama: Path) -> None:
    refuse("ollama:tiny", "Ollama has no such model; it has tiny:1b")
    refuse("ollama:", "Ollama has no such model")
    refuse("ollama:../../tiny:1b", "Ollama has no such model")
    (ollama.parents[4] / "blobs" / "sha256-abc").unlink()
    refuse("ollama:tiny:1b", "no such file; fetch it again with 'ollama pull'")
    layers = [{"mediaType": "application/vnd.ollama.image.adapter", "digest": "sha256:abc"}]
    ollama.write_text(json.dumps({"layers": layers}))
    refuse("ollama:tiny:1b", "an adapter on another model")
    ollama.write_text(json.dumps({"layers": []}))
    refuse("ollama:tiny:1b", "names no GGUF file")
    ollama.write_text("not json")
    refuse("ollama:tiny:1b", "its manifest cannot be")
    shutil.rmtree(ollama.parents[3])
    refuse("ollama:tiny:1b", "there is none in", "OLLAMA_MODELS")


@pytest.fixture
def adapter(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A LoRA on a copy of the tiny model, as peft saves it, with weights that are not zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    shutil.copytree(tiny_model_folder, tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapted: Any = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_" in name:
                weights.copy_(torch.randn_like(weights) * 0.2)
    adapted.save_pretrained(tmp_path / "adapter")
    torch.save(logits(adapted), tmp_path / "expected.pt")
    return tmp_path / "adapter"


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_adapter_is_merged_into_its_base(adapter: Path, tmp_path: Path) -> None:
    expected = torch.load(tmp_path / "expected.pt")
    loaded = load_model(str(adapter), device="cpu")
    assert torch.allclose(logits(loaded.model), expected, atol=1e-5)
    assert not torch.allclose(
        logits(load_model(str(tmp_path / "base"), device="cpu").model), expected, atol=1e-2
    )
    said = f"{adapter}: a LoRA adapter, merged into {tmp_path / 'base'} with the base model's tokenizer"
    assert describe_form(str(adapter)) == said
    edit(adapter, base_model_name_or_path="../base")  # seen from the adapter
    assert torch.equal(logits(load_model(str(adapter), device="cpu").model), logits(loaded.model))


def test_an_adapter_on_a_gguf_file_stands_on_what_that_stands_for(
    adapter: Path, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    base = load_model(str(tmp_path / "base"), device="cpu").model
    path = write_gguf(tmp_path / "base.gguf", base, tiny_tokenizer, arch="llama")
    edit(adapter, base_model_name_or_path=str(path))
    assert torch.allclose(
        logits(load_model(str(adapter), device="cpu").model), torch.load(tmp_path / "expected.pt"), atol=1e-5
    )


def test_a_tokenizer_beside_an_adapter_is_its_own(adapter: Path, tiny_tokenizer: Any) -> None:
    before = locate_model(str(adapter))
    tiny_tokenizer.chat_template = "{# mine #}" + tiny_tokenizer.chat_template
    tiny_tokenizer.save_pretrained(adapter)
    assert load_tokenizer(str(adapter)).chat_template.startswith("{# mine #}")
    assert locate_model(str(adapter)) != before
    assert "the adapter's own tokenizer" in str(describe_form(str(adapter)))


def test_an_adapter_that_is_trained_again_or_whose_base_is_is_another_model(
    adapter: Path, tmp_path: Path
) -> None:
    places = {locate_model(str(adapter))}
    for file in (adapter / "adapter_model.safetensors", tmp_path / "base" / "model.safetensors"):
        save_file({name: weights * 1.01 for name, weights in load_file(file).items()}, file, {"format": "pt"})
        places.add(locate_model(str(adapter)))
    assert len(places) == 3


def test_adapters_that_cannot_be_merged_are_refused(adapter: Path, tmp_path: Path) -> None:
    settings = (adapter / "adapter_config.json").read_text()
    for changes, said in (
        ({"peft_type": "IA3"}, "an adapter of kind 'IA3', expected LORA"),
        ({"base_model_name_or_path": None}, "base_model_name_or_path is None, expected its base model"),
        ({"base_model_name_or_path": "/nowhere/base"}, "an adapter on '/nowhere/base'"),
        ({"base_model_name_or_path": "nobody/nothing"}, "an adapter on 'nobody/nothing'"),
        ({"base_model_name_or_path": str(adapter)}, "an adapter in the folder of its own base model"),
        ({"target_modules": ["nothing"]}, "its adapter cannot be loaded"),
    ):
        edit(adapter, **changes)
        refuse(adapter, said)
        (adapter / "adapter_config.json").write_text(settings)
    shutil.copytree(adapter, tmp_path / "second")
    edit(tmp_path / "second", base_model_name_or_path=str(adapter))
    refuse(tmp_path / "second", "an adapter on another one")
    weights = load_file(adapter / "adapter_model.safetensors")
    first = min(weights)
    for changed, said in (
        (
            {name: weights[name] for name in weights if name != first},
            "1 of the adapter's weights are missing",
        ),
        ({**weights, f"{first}.more": weights[first].clone()}, "1 of the adapter's weights have no place"),
    ):
        save_file(changed, adapter / "adapter_model.safetensors")
        refuse(adapter, said)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    refuse(adapter, "an adapter without its weights", "adapter_model.bin is pickled")
    (adapter / "adapter_config.json").write_text("[1]")
    refuse(adapter, "adapter_config.json cannot be read")


def test_whole_embeddings_of_a_tied_model_are_refused(adapter: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    settings = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted: Any = get_peft_model(model, settings)
        adapted.save_pretrained(tmp_path / "whole")
    refuse(tmp_path / "whole", "an adapter that changes the embedding", "ties it to its output layer")


@pytest.fixture
def hub_cache(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with two commits of one model, of which `v1` names the first."""
    place = tmp_path / "hub" / "models--some--tiny"
    for commit in ("1" * 40, "2" * 40):
        shutil.copytree(tiny_model_folder, place / "snapshots" / commit)
    weights = place / "snapshots" / ("2" * 40) / "model.safetensors"
    save_file({name: w * 2 for name, w in load_file(weights).items()}, weights, {"format": "pt"})
    (place / "refs").mkdir()
    (place / "refs" / "v1").write_text("1" * 40)
    (place / "refs" / "main").write_text("2" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(load_module, "_hub_answers", lambda: pytest.fail("the hub was asked"))
    return place


def test_a_revision_is_loaded_from_the_cache_without_the_hub(hub_cache: Path, tmp_path: Path) -> None:
    first, second = (load_model(f"some/tiny@{name}", device="cpu") for name in ("v1", "2" * 40))
    assert not torch.allclose(logits(first.model), logits(second.model))
    assert first.tokenizer.chat_template
    assert answers_key(first, [[5]], Evaluate()) != answers_key(second, [[5]], Evaluate())
    assert load_architecture("some/tiny@v1").hidden_size == 32


def test_a_part_of_a_revision_is_not_the_whole(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "_hub_answers", lambda: False)
    (hub_cache / "snapshots" / ("1" * 40) / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"some/tiny@v1: .* cannot be had from the Hugging Face hub"):
        load_model("some/tiny@v1")
    with pytest.raises(ModelError, match=r"some/tiny@v9: .* cannot be had from the Hugging Face hub"):
        load_model("some/tiny@v9")


def test_a_revision_is_what_follows_the_last_at_sign_of_a_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert split_revision("owner/name@v1.0") == ("owner/name", "v1.0")
    assert split_revision("owner/name@refs/pr/3") == ("owner/name", "refs/pr/3")
    assert split_revision("owner/name") == ("owner/name", None)
    for name in ("./models/a@b", "ollama:a@b", "/models/a@b"):
        assert split_revision(name) == (name, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me@here").mkdir()
    assert split_revision("me@here") == ("me@here", None)


@pytest.mark.slow
def test_the_embedded_model_comes_back_from_llama_cpps_own_file(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from demask.export.llama_cpp import write_gguf as convert

    monkeypatch.setenv("DEMASK_CACHE", str(cache))
    before = load_model("embedded", device="cpu")
    convert(Path(before.source), tmp_path / "embedded.gguf", quant="f16", say=lambda text: None)
    after = load_model(str(tmp_path / "embedded.gguf"), device="cpu")
    text = "<|im_start|>user\nIn 1931 Mara Voss's works sold 12,345 lamps.<|im_end|>\n"
    ids = before.tokenizer(text).input_ids
    assert after.tokenizer(text).input_ids == ids
    assert after.tokenizer.chat_template == before.tokenizer.chat_template
    with torch.no_grad():
        first, second = (loaded.model(torch.tensor([ids])).logits for loaded in (before, after))
    assert torch.allclose(first, second, atol=0.05)  # the file has float16
