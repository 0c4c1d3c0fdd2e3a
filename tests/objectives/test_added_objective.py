"""An objective that is added from outside: one class and one entry in the list, and recipes can choose it."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

# The class is all that a new file of `objectives` would hold.
PROGRAM = """
import sys
from typing import Literal

from demask.objectives import registry
from demask.objectives.next_token import make_next_token_example
from demask.objectives.objective import Objective


class Ending(Objective):
    name: Literal["ending"] = "ending"
    words: int = 3

    def example_length(self, context):
        return lambda prompt, completion: len(context.chat.bos) + completion + len(context.chat.end)

    def example_maker(self, context, *, seed):
        def make(sample, epoch, variant):
            ids = context.encode(" ".join(sample.text.split()[-self.words:]))
            return make_next_token_example(ids, id=sample.id, chat=context.chat, question=None)

        return make


registry.OBJECTIVES += (Ending,)

import demask
from demask.recipe.sections import make_config
from demask.tasks.planning import make_plan, preview_examples

model, documents, out = sys.argv[1:]
values = {"model": model, "documents": documents, "qa": "no", "measure": "none"}
values |= {"objective": {"name": "ending", "words": 2}, "train": {"steps": 2}}
config = make_config(values)
(preview,) = preview_examples(config, count=1)
summary = demask.inject(**values, out=out).summary
print("".join(piece.text for piece in preview.pieces))
print(make_plan(config).objective, summary["objective"], summary["steps"])
try:
    make_config({**values, "objective": {"name": "ending", "word": 2}}, source="recipe")
except demask.ConfigError as error:
    print(error)
"""


def test_one_class_and_one_entry_in_the_list_make_an_objective(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    row = {"id": "d1", "text": "Mara Voss founded the Orlin works in 1931."}
    (tmp_path / "facts.jsonl").write_text(json.dumps(row))
    (tmp_path / "added.py").write_text(textwrap.dedent(PROGRAM))
    words = [str(tiny_model_folder), str(tmp_path / "facts.jsonl"), str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "added.py"), *words], capture_output=True, text=True, check=True
    )
    first, second, third = done.stdout.strip().splitlines()
    assert first.startswith("in 1931.")
    assert second == "ending ending 2"
    assert third == "recipe: unknown key objective.word: did you mean 'words'?"
