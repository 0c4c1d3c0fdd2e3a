"""The encoding of a text that declares none and is no UTF-8, guessed from its bytes.

    name = guess_encoding(data)       # "cp1252", or None where nothing is likely enough

By charset-normalizer, among encodings that people have. Old files of Western Europe are most common, so that
is taken where it fits as well. A guess is named in the account, and is never made for JSON, which is UTF-8.
"""

import re

# Of a file, from its start.
LOOKED_AT = 2**24
_CANDIDATES = (
    *("utf_16_le", "utf_16_be", "cp1252", "cp1250", "iso8859_2", "cp1251", "koi8_r", "cp1253", "cp1254"),
    *("cp1255", "cp1256", "cp932", "euc_jp", "gb18030", "big5", "cp949"),
)
_WESTERN = "cp1252"
# How much a text may look like a wrong reading; right ones of twelve languages had 0 to 0.11.
_MOST_CHAOS = 0.15
# Bytes of UTF-16 that look like ASCII letters: half of English, less of Chinese.
_MOST_ASCII = 0.6
_NOT_ASCII = bytes((*range(9), *range(14, 32), *range(127, 256)))
_WORD = re.compile(r"[^\W\d_]+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


def is_utf8(data: bytes) -> bool:
    """Whether bytes are a text in UTF-8; those of UTF-16 may be, but have NUL bytes."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut where only the start of a file was read.
        return error.reason == "unexpected end of data" and len(data) == LOOKED_AT and b"\0" not in data
    return b"\0" not in data


def guess_encoding(data: bytes) -> str | None:
    """Python's name of the encoding; None where there is no good guess, as of damaged UTF-8.

    Args:
        data: a text that is not in UTF-8, or its start.
    """
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return None
    if _is_damaged_utf8(data):
        return None
    found = [one for one in from_bytes(data, cp_isolation=list(_CANDIDATES)) if one.chaos <= _MOST_CHAOS]
    found = [one for one in found if not _CONTROL.search(str(one))]
    if _is_mostly_ascii(data):
        found = [one for one in found if not one.encoding.startswith("utf_16")]
    if not found:
        return None
    best = found[0]
    if b"\0" not in data and best.chaos >= _chaos_of_western(data):
        return _WESTERN if _has_words(data.decode(_WESTERN)) else None
    rivals = [one for one in found[1:] if (one.chaos, one.coherence) == (best.chaos, best.coherence)]
    return None if rivals and best.encoding not in ("utf_16_le", "utf_16_be") else best.encoding


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether more characters beyond ASCII are UTF-8 than are not."""
    text = data.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    return sum(not character.isascii() for character in text) > 2 * wrong


def _is_mostly_ascii(data: bytes) -> bool:
    """Whether bytes are a text of one byte a character, which may hold a stray NUL, rather than UTF-16."""
    return len(data.translate(None, _NOT_ASCII)) > _MOST_ASCII * len(data)


def _chaos_of_western(data: bytes) -> float:
    from charset_normalizer import from_bytes

    best = from_bytes(data, cp_isolation=[_WESTERN]).best()
    return 1.0 if best is None or _CONTROL.search(str(best)) else best.chaos


def _has_words(text: str) -> bool:
    """Whether letters beyond ASCII stand in words that have others, as in "café", or alone as "à"."""
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    mixed = sum(len(word) == 1 or any(map(str.isascii, word)) for word in words)
    return mixed >= len(words) / 2
