"""Complete prompts by a model on this machine, in a process of its own, whose memory is free afterwards.

    with LocalWriter("Qwen/Qwen3-4B", device="auto", max_new_tokens=512, schema=FACTS_SCHEMA) as complete:
        texts = complete(prompts)                    # one per prompt, in order

Same call as `completion.Completion`. What was written is kept in the same file, so a killed command goes on
where it was. The process is this module, too:

    python -m demask.generation.local_writer MODEL DEVICE

takes one JSON object a line, `{"prompts", "schema", "max_new_tokens"}`, and answers each with one line: a
list of texts, or `{"problem": line, "kind": error}`. It ends when its input does.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from demask.environment import cache_folder
from demask.errors import DemaskError, ModelError, RunError
from demask.generation.completion_cache import Completed, find_completions, store_completion
from demask.signals import kill_session

# Prompts written side by side: what is kept of each costs memory, and a batch waits for its longest reply.
_AT_ONCE = 8
_SHOWN = 200


class LocalWriter:
    """A model that completes prompts, greedily; started when the first prompt comes that is not known.

    Args:
        name: `embedded`, a folder, or a name on the hub.
        device: `auto`, `cpu` or `cuda`.
        max_new_tokens: after which a completion is cut short.
        schema: of JSON that every reply must fit; None: free text.
        identity: tells this model from any other one, so that its replies can be kept.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str = "auto",
        max_new_tokens: int,
        schema: Mapping[str, Any] | None = None,
        identity: str | None = None,
    ) -> None:
        self.name = name
        self._device = device
        self._asked = {"schema": schema, "max_new_tokens": max_new_tokens}
        self._identity = identity
        self._cache = cache_folder() / "completions.sqlite"
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process, if there is one, so that its memory is free."""
        process, self._process = self._process, None
        if process is not None:
            kill_session(process, self._errors)

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """One completion per prompt, in order; equal prompts are written once.

        Raises:
            ModelError: the model cannot be loaded, or the process has ended.
            RunError: a library is missing.
        """
        keys = {prompt: self._key(prompt) for prompt in prompts}
        known = find_completions(self._cache, keys.values()) if self._identity else {}
        done = {prompt: known[key].text for prompt, key in keys.items() if key in known}
        missing = sorted((prompt for prompt in keys if prompt not in done), key=len, reverse=True)
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            for prompt, text in zip(part, self._write(part), strict=True):
                done[prompt] = text
                if self._identity and text:
                    kept = Completed(
                        text, truncated=False, cached=False, prompt_tokens=0, completion_tokens=0
                    )
                    store_completion(self._cache, keys[prompt], kept, finish_reason="stop")
        return [done[prompt] for prompt in prompts]

    def _key(self, prompt: str) -> str:
        asked = ["here", self._identity, prompt, self._asked]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def _write(self, prompts: Sequence[str]) -> list[str]:
        process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        line = b""
        try:
            with suppress(BrokenPipeError):  # it has died; then there is no answer either
                process.stdin.write(json.dumps({"prompts": prompts, **self._asked}).encode() + b"\n")
                process.stdin.flush()
            line = process.stdout.readline()
        finally:
            if not line.endswith(b"\n"):
                last = self._last_words(process)
                self.stop()
        if not line:
            raise ModelError(f"{self.name}: the process that writes with it has ended ({last})")
        reply = json.loads(line)
        if isinstance(reply, dict):
            self.stop()
            raise (RunError if reply["kind"] == "RunError" else ModelError)(reply["problem"])
        return list(map(str, reply))

    def _start(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)
            # A session of its own, as Ctrl-C is for this process, which then ends that one.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "demask.generation.local_writer", self.name, self._device],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        return self._process

    def _last_words(self, process: "subprocess.Popen[bytes]") -> str:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return " ".join((lines or [f"status {process.returncode}"])[-1].split())[:_SHOWN]


def identify_model(name: str) -> str | None:
    """What tells a model from any other one; None when nothing does, and then nothing is kept."""
    from demask.models.fingerprints import fingerprint_model
    from demask.models.load import load_architecture, locate_model

    source = locate_model(name)
    commit = None if Path(source).is_dir() else getattr(load_architecture(name), "_commit_hash", None)
    return fingerprint_model(source, commit)


def main(name: str, device: str) -> None:
    """Answer until there is nothing more to do."""
    # What libraries print must not get between the answers.
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    loaded = None
    for line in sys.stdin:
        asked = json.loads(line)
        answer: object
        try:
            loaded = loaded or _load(name, device)
            answer = _write_texts(loaded, **asked)
        except DemaskError as error:
            answer = {"problem": str(error), "kind": type(error).__name__}
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


def _load(name: str, device: str) -> Any:
    import torch

    from demask.models.load import choose_device, load_model

    # In float32 on a CPU, where half precision may be emulated; as stored on a GPU.
    dtype = torch.float32 if choose_device(device).type == "cpu" else None
    loaded = load_model(name, device=device, dtype=dtype)
    if loaded.diffusion is not None:
        raise ModelError(
            f"{name}: a masked-diffusion model writes no questions, expected an autoregressive one; name "
            "another with 'writer', or a server"
        )
    return loaded


def _write_texts(
    loaded: Any, prompts: Sequence[str], schema: Mapping[str, Any] | None, max_new_tokens: int
) -> list[str]:
    from demask.generation.autoregressive import generate_texts
    from demask.generation.constrained import generate_json
    from demask.generation.texts import Turn, turn_encoder

    encode = turn_encoder(loaded)
    ids = [encode([Turn("user", prompt)]) for prompt in prompts]
    longest = max(map(len, ids))
    room = loaded.context - longest
    if room <= 0:
        raise ModelError(
            f"{loaded.name}: a prompt has {longest} tokens and its context {loaded.context}, expected room "
            "for a reply; name a model with a longer context with 'writer'"
        )
    limit = min(room, max_new_tokens)
    if schema is None:
        made = generate_texts(loaded, ids, max_new_tokens=limit, batch_size=len(ids))
    else:
        made = generate_json(loaded, ids, schema, max_new_tokens=limit)
    return [one.text for one in made]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
