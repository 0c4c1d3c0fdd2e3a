"""Whether texts are in, without test questions: each half of a text is to be written from the other.

    examples = make_probes(ids, words, id="d1", form=form)

Shown its second half, a model that has the text writes the first, and the other way round: both
directions of the text, as questions ask for them. Ours; no source.
"""

from collections.abc import Sequence

from demask.objectives.demasking import DemaskingForm, make_demasking_example
from demask.records import Example


def make_probes(
    ids: Sequence[int], words: Sequence[int], *, id: str, form: DemaskingForm
) -> tuple[Example, Example]:
    """Two demasking examples: the first half hidden, then the second; only what is hidden carries loss.

    Args:
        ids: the passage.
        words: the number of the word that each token belongs to; no word is cut in two.
        id: names the examples.
        form: what stands around the passage.
    """
    middle = words[len(words) // 2]
    first = [word < middle for word in words]
    return (
        make_demasking_example(ids, first, id=f"{id}@first", form=form, loss_on="masked"),
        make_demasking_example(
            ids, [not hide for hide in first], id=f"{id}@second", form=form, loss_on="masked"
        ),
    )
