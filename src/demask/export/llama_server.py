"""Ask a GGUF file, as the server of llama.cpp does: with the chat template that stands in the file.

    replies = ask_gguf(Path("out/model-q8_0.gguf"), [Chat((("user", "Who founded Orlin?"),), 128)])

In a process of its own, which this module is, too: `python -m demask.export.llama_server`, with a request as
JSON on standard input, answers a line for each conversation. Needs xllamacpp; without torch.
"""

import importlib.util
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from demask.errors import ModelError, RunError


class Chat(NamedTuple):
    """A conversation as (role, content), up to the user's last turn; the most tokens of its reply."""

    turns: tuple[tuple[str, str], ...]
    max_new_tokens: int


class ChatReply(NamedTuple):
    """What was said, in how many tokens and seconds; `stopped` is False when the limit cut it short."""

    text: str
    tokens: int
    seconds: float
    stopped: bool


def check_server() -> None:
    """See that what asks a GGUF file is installed, before minutes of converting.

    Raises:
        RunError: it is not.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise RunError("asking a GGUF file needs xllamacpp: pip install 'demask[gguf]', or add --no-ask")


def ask_gguf(
    model: Path,
    chats: Sequence[Chat],
    *,
    adapter: Path | None = None,
    on_done: Callable[[], None] = lambda: None,
) -> list[ChatReply]:
    """Greedy replies, in order.

    Args:
        model: a GGUF file.
        chats: what to ask.
        adapter: a GGUF file of a LoRA adapter, put on the model.
        on_done: called after each reply.

    Raises:
        ModelError: llama.cpp cannot load the file, or ends before it has answered.
        RunError: xllamacpp is not installed.
    """
    check_server()
    request = {"model": str(model), "adapter": str(adapter) if adapter else None, "chats": chats}
    replies = []
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        with subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request))
            process.stdin.close()
            for line in process.stdout:
                replies.append(ChatReply(**json.loads(line)))
                on_done()
        if len(replies) < len(chats):
            log.seek(0)
            reason = _find_reason(log.read(), f"exit code {process.returncode}")
            raise ModelError(
                f"{model}: llama.cpp answered {len(replies)} of {len(chats)} prompts and ended ({reason}); "
                "try another --quant, or add --no-ask to export without asking"
            )
    return replies


def _find_reason(log: str, otherwise: str) -> str:
    """The first error that llama.cpp wrote, else the last line."""
    lines = log.strip().splitlines() or [otherwise]
    errors = (line.split(" E ", 1)[1] for line in lines if " E " in line[:30])
    return " ".join(next(errors, lines[-1]).split())


def _main() -> None:
    """Answer what stands on standard input; llama.cpp's own words go to standard error."""
    request = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        server = _start(request["model"], request["adapter"])
        for turns, limit in request["chats"]:
            out.write(json.dumps(_answer(server, turns, limit)._asdict()) + "\n")
            out.flush()
    os._exit(0)  # threads of the server may outlive it


def _start(model: str, adapter: str | None) -> Any:
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.n_parallel = 1
    settings.n_ctx = 0  # as the file says
    settings.warmup = False
    # It also listens on a port of this machine, where nobody is to ask it.
    settings.hostnames, settings.api_keys = ["127.0.0.1"], [secrets.token_hex()]
    settings.use_jinja = True
    settings.cpuparams.n_threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    if adapter:
        lora = xllamacpp.CommonAdapterLoraInfo()
        lora.path, lora.scale = adapter, 1.0
        settings.lora_adapters = [lora]
    return xllamacpp.Server(settings)


def _answer(server: Any, turns: Sequence[Sequence[str]], limit: int) -> ChatReply:
    body = {
        "messages": [{"role": role, "content": content} for role, content in turns],
        "max_tokens": limit,
        "temperature": 0,
        "top_k": 1,
        "cache_prompt": False,  # else the batch, and so rounding, depends on what was asked before
    }
    began = time.monotonic()
    answer = server.handle_chat_completions(body)
    found = json.loads(answer) if isinstance(answer, str | bytes) else answer
    if "choices" not in found:
        raise SystemExit(f"refused: {json.dumps(found)[:300]}")
    (choice,) = found["choices"]
    return ChatReply(
        (choice["message"].get("content") or "").strip(),
        int(found["usage"]["completion_tokens"]),
        round(time.monotonic() - began, 4),
        choice["finish_reason"] == "stop",
    )


if __name__ == "__main__":
    _main()
