"""Which encoding the bytes of a text file are in: that of their byte order mark, UTF-8 without one.

    encoding = find_encoding(data)
    text = data[encoding.mark_bytes :].decode(encoding.name)

Every text that a user gives is decoded by this rule, a web page by `choose_page_encoding`.
"""

import codecs
from typing import NamedTuple

# UTF-32 stands first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Bytes of a file that tell its encoding.
LONGEST_MARK = 4
# Pages that name the first mean the second (WHATWG, Encoding Standard): old sets stand for the larger ones of
# Windows, and a name of UTF-16 that can be read as ASCII is wrong.
_MEANT = {
    "iso-8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "euc-kr": "cp949",
    "utf-16": "utf-8",
    "utf-16le": "utf-8",
    "utf-16be": "utf-8",
}
# Encodings that write other scripts in ASCII bytes, all of which are valid UTF-8.
_SEVEN_BITS = ("iso-2022-", "hz")


class Encoding(NamedTuple):
    """How a text file is decoded."""

    name: str  # of Python's codec
    mark_bytes: int = 0  # of the byte order mark, which is no part of the text
    guessed: bool = False  # from its bytes, as the file does not say it

    @property
    def title(self) -> str:
        """As people write it: UTF-8, UTF-16, UTF-32."""
        return self.name.removesuffix("-le").removesuffix("-be").upper()


def find_encoding(data: bytes) -> Encoding:
    """The encoding of a text by its first bytes."""
    return next(
        (Encoding(name, len(mark)) for mark, name in _MARKS if data.startswith(mark)), Encoding("utf-8")
    )


def decode(data: bytes) -> str:
    """A whole text without its byte order mark.

    Raises:
        UnicodeDecodeError: the bytes are not in that encoding; its `start` counts from after the mark.
    """
    encoding = find_encoding(data)
    return data[encoding.mark_bytes :].decode(encoding.name)


def choose_page_encoding(data: bytes, declared: str) -> Encoding:
    """The encoding of a web page.

    The byte order mark decides; then the bytes, as few pages are valid UTF-8 by chance, and many were
    converted to UTF-8 and still declare what they were; then what the page declares.

    Args:
        data: the whole page.
        declared: the name that the page gives; empty when it gives none.
    """
    marked = find_encoding(data)
    name = declared.lower()
    name = _MEANT.get(name, name) or "utf-8"
    if marked.mark_bytes or name == "utf-8":
        return marked
    if name.startswith(_SEVEN_BITS):
        return Encoding(name)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return Encoding(name)
    return Encoding("utf-8")
