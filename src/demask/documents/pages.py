"""Which page of its file a stretch of a document stands on.

page_of(document, document.text.find("Orlin"))  # 3
"""

from bisect import bisect_right

from demask.records import Document


def page_of(document: Document, offset: int) -> int | None:
    """The number, from 1, of the page that holds a character of a document's text; None without pages.

    Args:
        document: its metadata has `pages` when it was read from a PDF: where each page begins in the text.
        offset: of the character, from 0.

    Raises:
        ValueError: the text has no such character.
    """
    if not 0 <= offset < len(document.text):
        raise ValueError(f"offset is {offset}, expected 0 to {len(document.text) - 1}")
    starts = document.metadata.get("pages")
    if not isinstance(starts, list | tuple) or not starts:
        return None
    return max(1, bisect_right(starts, offset))
