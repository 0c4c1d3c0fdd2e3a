"""GGUF files, converted and quantised by llama.cpp's own code.

    write_gguf(Path("runs/first/model"), Path("out/model-q8_0.gguf"), quant="q8_0")
    write_gguf_adapter(Path("runs/first/adapter"), base, Path("out/adapter-f16.gguf"))

The converter comes out of the source archive of llama-cpp-python (MIT), which carries llama.cpp's (MIT). It
is unpacked, never built, and kept in the user's cache. K-quants need cyllama, which wraps llama.cpp's
quantiser.
"""

import ast
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from demask.environment import cache_folder
from demask.errors import ConfigError, ModelError, RunError

Quant: TypeAlias = Literal["f16", "q8_0", "q4_k_m"]
QUANTS: tuple[Quant, ...] = get_args(Quant)
ARCHIVE = "llama-cpp-python==0.3.36"
ARCHIVE_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
CONVERTER = "llama.cpp-converter-0.3.36"
_INSIDE = "llama_cpp_python-0.3.36/vendor/llama.cpp/"
_PARTS = ("LICENSE", "convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "conversion/", "gguf-py/gguf/")
# As in llama.h.
_FTYPES = {"q4_k_m": 15}
# In a process of its own: llama.cpp writes to standard error, and ends the process when it fails.
_QUANTISE = """
import sys
from cyllama.llama import llama_cpp
settings = llama_cpp.LlamaModelQuantizeParams()
settings.ftype = int(sys.argv[3])
llama_cpp.model_quantize(sys.argv[1], sys.argv[2], settings)
"""


def read_quant(name: str) -> Quant:
    """The quantisation by its name.

    Raises:
        ConfigError: there is no such one.
    """
    for quant in QUANTS:
        if name.lower() == quant:
            return quant
    raise ConfigError(f"--quant: {name!r}, expected {', '.join(QUANTS[:-1])} or {QUANTS[-1]}")


def check_installed(quant: Quant) -> None:
    """See that what converts and quantises is installed, before minutes of work.

    Raises:
        RunError: it is not.
    """
    # The converter imports sentencepiece whatever tokenizer a model has.
    needed = ["sentencepiece", *(["cyllama"] if quant in _FTYPES else [])]
    missing = [name for name in needed if not is_installed(name)]
    if missing:
        raise RunError(f"--quant {quant} needs {' and '.join(missing)}: pip install 'demask[gguf]'")


def is_installed(package: str) -> bool:
    """Whether a package is there, without importing it."""
    return importlib.util.find_spec(package) is not None


def write_gguf(
    model: Path, out: Path, *, quant: Quant, say: Callable[[str], None] = lambda text: None
) -> None:
    """Convert a model folder; the file appears whole or not at all.

    Args:
        model: folder in the native layout.
        out: the file.
        quant: of the weights; q4_k_m goes by way of an f16 file, which is removed.
        say: told when the quantiser could not quantise some weights as asked.

    Raises:
        ModelError: the converter does not know the architecture or the tokenizer.
        RunError: the converter cannot be had, or the disk is full.
    """
    check_installed(quant)
    converter = fetch_converter()
    check_architecture(model, converter)
    script = converter / "convert_hf_to_gguf.py"
    with _scratch(out) as folder:
        made = Path(folder) / "model.gguf"
        kind = "f16" if quant in _FTYPES else quant
        _run([str(script), str(model), "--outtype", kind, "--outfile", str(made)], converter, model)
        if quant in _FTYPES:
            smaller = Path(folder) / "smaller.gguf"
            told = _run(["-c", _QUANTISE, str(made), str(smaller), str(_FTYPES[quant])], converter, model)
            made = smaller
            # Of rows that are no multiple of 256, mostly.
            warnings = [line for line in told.splitlines() if "WARNING:" in line]
            for line in warnings:
                say(f"{out.name}: {line.rpartition('WARNING:')[2].strip()}")
        os.replace(made, out)


def write_gguf_adapter(adapter: Path, base: Path, out: Path) -> None:
    """Convert a LoRA adapter, in f16; the file appears whole or not at all.

    Args:
        adapter: folder, as peft writes it.
        base: folder of its base model, of which only the settings are read.
        out: the file.

    Raises:
        ModelError: the converter does not know the architecture, or not this kind of adapter.
        RunError: the converter cannot be had, or the disk is full.
    """
    converter = fetch_converter()
    check_architecture(base, converter)
    script = converter / "convert_lora_to_gguf.py"
    with _scratch(out) as folder:
        made = Path(folder) / "adapter.gguf"
        words = [str(script), str(adapter), "--base", str(base), "--outtype", "f16", "--outfile", str(made)]
        _run(words, converter, adapter)
        os.replace(made, out)


def _scratch(out: Path) -> "tempfile.TemporaryDirectory[str]":
    """Beside the file, so that it can be put in its place."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=out.parent, prefix=".gguf-", ignore_cleanup_errors=True)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


def check_architecture(model: Path, converter: Path) -> None:
    """Refuse a model that llama.cpp does not know, by name.

    Raises:
        ModelError: it does not, or the folder says nothing of it.
    """
    try:
        settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
        (name, *_) = settings["architectures"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{model}: config.json names no architecture; expected a model folder of transformers"
        ) from error
    _refuse_code(model, settings)
    known = read_architectures(converter)
    if name not in known:
        raise ModelError(
            f"{model}: {name} is no architecture that llama.cpp's converter knows (it knows {len(known)}); "
            "serve the folder itself, as with 'demask serve' or --to vllm"
        )


def _refuse_code(model: Path, settings: Mapping[str, Any]) -> None:
    """The converter would run a maker's code that a folder brings; none of ours does."""
    path = model / "tokenizer_config.json"
    of_tokenizer = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "auto_map" in settings or "auto_map" in of_tokenizer:
        raise ModelError(
            f"{model}: its settings name code of its maker (auto_map), which demask does not run; "
            "remove auto_map from config.json and tokenizer_config.json if transformers knows the model"
        )


def read_architectures(converter: Path) -> frozenset[str]:
    """The architectures that the converter has code for, as config.json calls them."""
    tree = ast.parse((converter / "conversion" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == "TEXT_MODEL_MAP" and isinstance(node, ast.AnnAssign):
            assert node.value is not None
            return frozenset(ast.literal_eval(node.value))
    raise RunError(f"{converter}: holds no list of architectures; delete it, to have it fetched again")


def fetch_converter() -> Path:
    """The folder with llama.cpp's converter, fetched on first use.

    Raises:
        RunError: it cannot be downloaded or kept, or is not the expected one.
    """
    folder = cache_folder() / CONVERTER
    if folder.exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
            unpacked = _unpack(_download(Path(scratch)), Path(scratch) / "unpacked")
            if not folder.exists():
                os.replace(unpacked, folder)
    except OSError as error:
        raise RunError(
            f"{folder.parent}: cannot keep llama.cpp's converter there ({error.strerror or error}); it takes "
            "80 MB while it is fetched and 2 MB after; free some space or set DEMASK_CACHE to another folder"
        ) from error
    return folder


def _download(scratch: Path) -> Path:
    """The source archive; pip refuses one with another checksum before it looks inside."""
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{ARCHIVE} --hash=sha256:{ARCHIVE_SHA256}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    which = ["--no-binary", ARCHIVE.partition("==")[0], "--dest", str(scratch), "-r", str(wanted)]
    finished = subprocess.run([*pip, *which], capture_output=True, text=True, check=False)
    archives = list(scratch.glob("*.tar.gz"))
    if finished.returncode != 0 or len(archives) != 1:
        reason = _last_line(finished.stderr, "no archive came")
        raise RunError(
            f"GGUF: 'pip download --no-binary :all: {ARCHIVE}' failed ({reason}); check the network, as the "
            "converter of llama.cpp comes from there"
        )
    return archives[0]


def _unpack(archive: Path, target: Path) -> Path:
    wanted = tuple(f"{_INSIDE}{part}" for part in _PARTS)
    with tarfile.open(archive) as source:
        for member in source.getmembers():
            if member.isfile() and member.name.startswith(wanted):
                member.name = member.name.removeprefix(_INSIDE)
                source.extract(member, target, filter="data")
    return target


def _run(words: Sequence[str], converter: Path, model: Path) -> str:
    """Run a script of llama.cpp's, with its own `gguf`; gives what it said on the way."""
    environment = {**os.environ, "PYTHONPATH": str(converter / "gguf-py"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode == 0:
        return done.stderr
    if "No space left" in done.stderr:
        raise RunError(f"{words[-1]}: the disk is full; free some space or choose another --out")
    raise ModelError(
        f"{model}: llama.cpp cannot convert it ({_last_line(done.stderr, f'exit code {done.returncode}')}); "
        "serve the folder itself, as with 'demask serve' or --to vllm"
    )


def _last_line(text: str, otherwise: str) -> str:
    return (text.strip().splitlines() or [otherwise])[-1]
