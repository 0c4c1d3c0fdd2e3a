"""A run is the same to the bit as in the release before: what is seen, in which order, and what is masked."""

import hashlib

import pytest

from demask.data.sequences import PassageSamples
from demask.models.context import load_context
from demask.recipe.sections import make_config
from demask.records import Passage
from demask.training.stream import make_stream

# Of the first examples of three epochs, taken before `copies`, `entity` and drawn instructions came.
KNOWN = {
    "demasking": "8098c01da94b9a6e",
    "word masks": "3e8e740b0d795f6a",
    "next-token": "de14065ca569bca8",
    "reverse": "f0a435e068895038",
}
OBJECTIVES = {
    "demasking": {},
    "word masks": {"name": "demasking", "unit": "word", "mask_ratio": 0.5, "loss_on": "masked"},
    "next-token": {"name": "next-token"},
    "reverse": {"name": "reverse"},
}
WORDS = "Mara Voss founded the Orlin works in 1931, and in 1958 her son sold them to Bad Ems.".split()
PASSAGES = [Passage(f"d{n}", f"d{n}", " ".join(WORDS[: 3 + n])) for n in range(len(WORDS) - 2)]


@pytest.mark.parametrize("name", KNOWN)
def test_examples_and_their_order_are_those_of_the_release_before(tiny_model_folder, name):
    model = str(tiny_model_folder)
    values = {"model": model, "documents": "facts", "seed": 3, "preset": "paper"}  # the defaults until then
    config = make_config({**values, "objective": OBJECTIVES[name]})
    context = load_context(model, config.objective)
    stream = make_stream(config, context, PassageSamples(PASSAGES, context.tokenizer))
    examples = [stream[place] for place in range(3 * len(PASSAGES))]
    seen = repr([(e.id, e.token_ids, e.labels, e.masked, e.weight, e.supervised) for e in examples])
    digest = hashlib.sha256(f"{stream.batch_size} {stream.steps} {seen}".encode()).hexdigest()
    assert digest[:16] == KNOWN[name]
