"""Documents out of which passages are made that fit the context; nothing is ever cut off.

    for passage in iter_passages(documents, count_tokens=count, max_tokens=512): ...

A document that fits is one passage. Any other is cut at the ends of sentences and paragraphs. The rules
that find sentences rather miss an end (after "Mr." or "J.") than see one that is none: a missed end only
makes a longer sentence, a wrong one makes a passage that starts halfway through.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import NamedTuple

from demask.documents.seen import SeenIds
from demask.documents.text_files import shown
from demask.errors import DataError
from demask.records import Document, Passage

# No sentence ends with one of these.
_TITLES = re.compile(
    r"dr|mr|mrs|ms|messrs|prof|sen|rep|gov|gen|col|lt|sgt|capt|cmdr|adm|maj|rev|hon|pres|vs|cf|viz",
    re.IGNORECASE,
)
# No sentence ends with one of these unless a word of `_STARTERS` follows.
_ABBREVIATIONS = re.compile(
    r"st|ste|mt|ft|ave|blvd|rd|jr|sr|esq|inc|ltd|co|corp|bros|dept|univ|assn|est|etc|al|approx|ca|ibid|resp|incl|excl"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec",
    re.IGNORECASE,
)
_STARTERS = re.compile(
    r"the|this|that|these|those|its?|he|she|they|his|her|their|we|our|you|your|i|there|then|when|while|after|before"
    r"|although|however|in|on|at|as|but|if|for|from|since|and|so|to|by|with",
    re.IGNORECASE,
)
# No sentence ends with one of these when a number follows: "No. 5", but "She said no. Five left."
_BEFORE_NUMBERS = re.compile(r"nos?|nr|figs?|pp?|vols?|ch|chap|sect?|art|eqs?|par", re.IGNORECASE)
_LETTERS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")  # U.S, e.g
_LIST_NUMBER = re.compile(r"(?:\A|\n)[ \t]*\d{1,3}\Z")
_LAST_WORD = re.compile(r"[\w.]*\Z")
_NEXT_WORD = re.compile(r"\s+[^\w\s]*(?P<word>\w*)")
_WORD_WINDOW = 24  # characters; longer than any abbreviation
_MARK = r"(?:[-*+•]|\#{1,6}|\d{1,3}[.)]|\|)[ \t]"  # of a list item, a heading, a table row

_ENDS = re.compile(
    rf"""
      (?P<line> ^(?:\#{{1,6}}[ \t] | \|)[^\n]* $ )
    | (?P<stop> [.!?…؟۔।]+ ) (?: [\"'”“’»«)\]*_`] | [ \u00a0\u202f]» | \[\d+\] )* (?=\s)
    | (?P<cjk> [。！？｡]+ [」』”’）】》]* )
    | (?P<break> \n (?= [ \t]*\n | [ \t]*{_MARK} ) )
    """,  # noqa: RUF001 (stops and quotes of many scripts)
    re.VERBOSE | re.MULTILINE,
)


class Span(NamedTuple):
    """A stretch of a text, without white space at its ends."""

    start: int
    end: int


def find_sentences(text: str) -> list[Span]:
    """Where the sentences of a text stand; between them there is only white space.

    Sentences end at a full stop, question or exclamation mark, with the quotes and brackets that
    close after it; at CJK full stops; at blank lines; before list items; and around headings and
    table rows.
    """
    ends = [found.end() for found in _ENDS.finditer(text) if _ends_sentence(text, found)]
    spans = []
    for start, end in pairwise([0, *ends, len(text)]):
        words = text[start:end]
        if words.strip():
            spans.append(Span(start + len(words) - len(words.lstrip()), start + len(words.rstrip())))
    return spans


def _ends_sentence(text: str, found: re.Match[str]) -> bool:
    stop = found["stop"]
    if not stop:
        return True
    following = _NEXT_WORD.match(text, found.end())
    next_word = following["word"] if following else ""
    if next_word[:1].islower():
        return False
    if stop != ".":
        return True
    before = text[max(0, found.start() - _WORD_WINDOW) : found.start()]
    last_word = _LAST_WORD.findall(before)[0]
    if _TITLES.fullmatch(last_word) or _LIST_NUMBER.search(before):
        return False
    if _BEFORE_NUMBERS.fullmatch(last_word):
        return not next_word[:1].isdigit()
    initial = len(last_word) == 1 and last_word.isupper()
    if initial or _ABBREVIATIONS.fullmatch(last_word) or _LETTERS.fullmatch(last_word):
        return _STARTERS.fullmatch(next_word) is not None
    return True


@dataclass(frozen=True)
class _Sentences:
    """The sentences of one document; `first` and `last` number them, `last` excluded."""

    text: str
    spans: Sequence[Span]
    tokens_before: Sequence[int]  # of all sentences before this one, counted one by one
    count_tokens: Callable[[str], int]

    def join(self, first: int, last: int) -> str:
        return self.text[self.spans[first].start : self.spans[last - 1].end]

    def fit(self, first: int, last: int, limit: int) -> bool:
        return self.count_tokens(self.join(first, last)) <= limit

    def find_last(self, first: int, limit: int) -> int:
        """The end of the longest passage that starts at `first`.

        The sum of single counts is only a guess: tokens of the joined text are counted.
        """
        last = max(first + 1, bisect_right(self.tokens_before, self.tokens_before[first] + limit) - 1)
        while last < len(self.spans) and self.fit(first, last + 1, limit):
            last += 1
        while last > first + 1 and not self.fit(first, last, limit):
            last -= 1
        return last


def split_document(
    document: Document,
    *,
    count_tokens: Callable[[str], int],
    max_tokens: int,
    heading: str = "",
    surely_fits: Callable[[str], bool] = lambda text: False,
) -> list[Passage]:
    """Split one document into as few passages as possible, of about equal length.

    Args:
        document: with some text.
        count_tokens: of a text; need not be additive. Called with joined texts, too.
        max_tokens: a passage has at most this many, its heading included.
        heading: stands on every passage.
        surely_fits: whether a text has at most `max_tokens` for certain, where that is known without
            counting: a byte-level tokenizer makes no more tokens than there are bytes.

    Returns:
        One passage with the document's id, or several with the ids `<document id>#1`, `#2`, ...

    Raises:
        DataError: the document is empty, one sentence alone is longer than `max_tokens`, or the heading
            leaves less than half of `max_tokens`.
    """
    place = document.source or f"document {shown(document.id)}"
    text = document.text
    entity = read_entity(document)
    if not text or text.isspace():
        raise DataError(f"{place}: the document is empty; write its text or leave it out")
    if surely_fits(heading + text if heading else text):
        return [Passage(document.id, document.id, text, heading, entity)]
    # What a text adds to its heading, as tokens may join at the seam: exact where it is compared.
    spent = count_tokens(heading) if heading else 0
    limit = max_tokens - spent
    if limit < max_tokens / 2:
        raise DataError(
            f"{place}: its heading has {spent} tokens, expected at most {max_tokens // 2}, half of "
            f"max_tokens: {shown(heading)}; shorten its title or leave headings out"
        )
    count = cache(lambda part: count_tokens(heading + part) - spent if heading else count_tokens(part))
    if count(text) <= limit:
        return [Passage(document.id, document.id, text, heading, entity)]
    spans = find_sentences(text)
    counts = [count(text[start:end]) for start, end in spans]
    for (start, end), tokens in zip(spans, counts, strict=True):
        if tokens > limit:
            raise DataError(
                f"{place}: a sentence has {tokens} tokens, at most {limit} fit: "
                f"{shown(text[start:end])}; split the sentence or raise max_tokens"
            )
    sentences = _Sentences(text, spans, [0, *accumulate(counts)], count)
    cuts = _cut_evenly(sentences, limit, longest=max(counts))
    return [
        Passage(f"{document.id}#{number}", document.id, sentences.join(first, last), heading, entity)
        for number, (first, last) in enumerate(pairwise(cuts), start=1)
    ]


def read_entity(document: Document) -> str:
    """What the document is about, as its key `entity` says; empty when that is missing or no text."""
    value = document.metadata.get("entity")
    return value.strip() if isinstance(value, str) else ""


def _cut_greedily(sentences: _Sentences, limit: int) -> list[int]:
    """The sentences at which passages start, and the end of the last: each passage as long as it may be."""
    cuts = [0]
    while cuts[-1] < len(sentences.spans):
        cuts.append(sentences.find_last(cuts[-1], limit))
    return cuts


def _cut_evenly(sentences: _Sentences, limit: int, *, longest: int) -> list[int]:
    """As few passages as greedy cuts give, cut nearest to equal parts.

    Where such passages do not fit, the lowest limit is used at which greedy cuts give as few.
    """
    fewest = _cut_greedily(sentences, limit)
    parts = len(fewest) - 1
    total = sentences.tokens_before[-1]
    even = [_nearest(sentences.tokens_before, total * part / parts) for part in range(parts + 1)]
    if all(first < last and sentences.fit(first, last, limit) for first, last in pairwise(even)):
        return even
    limits = range(longest, limit)
    lowest = bisect_left(limits, True, key=lambda tried: len(_cut_greedily(sentences, tried)) <= len(fewest))
    return _cut_greedily(sentences, limits[lowest]) if lowest < len(limits) else fewest


def _nearest(rising: Sequence[int], value: float) -> int:
    """The place of the number nearest to a value that is within the range of the numbers."""
    above = bisect_left(rising, value)
    return above if above == 0 or rising[above] - value < value - rising[above - 1] else above - 1


def iter_passages(
    documents: Iterable[Document],
    *,
    count_tokens: Callable[[str], int],
    max_tokens: int,
    heading: Callable[[Document], str] = lambda document: "",
    surely_fits: Callable[[str], bool] = lambda text: False,
) -> Iterator[Passage]:
    """Split documents into passages with unique ids, one document after another; see `split_document`.

    Args:
        documents: in any number; none is held.
        count_tokens: of a text.
        max_tokens: of a passage with its heading.
        heading: title or date of a document, to stand on its passages; ends with a line feed unless empty.
        surely_fits: whether a text has at most `max_tokens` for certain, without counting.

    Raises:
        DataError: a document is empty, has a sentence or a heading that does not fit, or ids clash.
    """
    seen = SeenIds()
    for document in documents:
        for passage in split_document(
            document,
            count_tokens=count_tokens,
            max_tokens=max_tokens,
            heading=heading(document),
            surely_fits=surely_fits,
        ):
            if not seen.add(passage.id):
                raise DataError(
                    f"{document.source or 'documents'}: passage id {shown(passage.id)} is taken by document "
                    f"{shown(_find_owner(passage, seen))}; give one of them another id"
                )
            yield passage


def _find_owner(passage: Passage, seen: SeenIds) -> str:
    """The document that another passage with this id must be of.

    Either the one with this very id, which was not split, or the one with this id but for its number.
    """
    whole, _, number = passage.id.rpartition("#")
    split = number.isdigit() and f"{whole}#1" in seen and whole != passage.document_id
    return whole if split else passage.id
