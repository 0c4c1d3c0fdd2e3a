"""Documents out of which passages are made that fit the context; nothing is ever cut off.

    for passage in iter_passages(documents, count_tokens=count, max_tokens=512): ...

A document that fits is one passage. Any other is cut at its headings where it has some, else at the ends of
sentences and paragraphs, and only where a sentence alone is too long within it.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import NamedTuple

from demask.documents.sections import SEPARATOR, Outline, cut_at_headings, make_outline, read_outline
from demask.documents.sentences import cut_stretch, find_sentences, spans_between
from demask.documents.text_files import shown
from demask.errors import DataError
from demask.records import Document, Passage
from demask.words import Span

_PLACES = 2**12  # at first; always a power of two
_SECTION_SHARE = 0.25  # of a passage's tokens: what its headings may take


class SeenIds:
    """A set of ids that takes 16 to 32 bytes for each, however long they are.

    It keeps a 64-bit hash of each, in a table with open addressing, at most half full, as searching then is
    short. That two of a million ids share one has a chance of 3 in 100 million; who can look the ids up again
    does so before calling it an error.
    """

    def __init__(self) -> None:
        self._table = array("q", bytes(8 * _PLACES))
        self._last = _PLACES - 1
        self._free = _PLACES // 2

    def __contains__(self, name: str) -> bool:
        key = hash(name) or 1  # 0 marks a free place
        return self._table[_find_place(self._table, key)] == key

    def add(self, name: str) -> bool:
        """Add an id; False when it was there already."""
        # As `_find_place`, written out: a call more for each id is felt when there are millions.
        key = hash(name) or 1
        table, last = self._table, self._last
        place = key & last
        while found := table[place]:
            if found == key:
                return False
            place = (place + 1) & last
        table[place] = key
        self._free -= 1
        if not self._free:
            self._grow()
        return True

    def _grow(self) -> None:
        old, table = self._table, array("q", bytes(16 * len(self._table)))
        for key in old:
            if key:
                table[_find_place(table, key)] = key
        self._table, self._last, self._free = table, len(table) - 1, len(old) // 2


def _find_place(table: "array[int]", key: int) -> int:
    """The place of a key, or the free one where it belongs."""
    last = len(table) - 1
    place = key & last
    while (found := table[place]) and found != key:
        place = (place + 1) & last
    return place


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
    sections: bool = False,
) -> list[Passage]:
    """Split one document into as few passages as possible, of about equal length.

    Args:
        document: with some text.
        count_tokens: of a text; need not be additive. Called with joined texts, too.
        max_tokens: a passage has at most this many, its heading included.
        heading: stands on every passage.
        surely_fits: whether a text has at most `max_tokens` for certain, where that is known without
            counting: a byte-level tokenizer makes no more tokens than there are bytes.
        sections: whether it is cut at its headings first, and each passage names those that it stands under.

    Returns:
        One passage with the document's id, or several with the ids `<document id>#1`, `#2`, ...

    Raises:
        DataError: the document is empty, one character alone has more than `max_tokens`, or the heading
            leaves less than half of `max_tokens`.
    """
    place = document.source or f"document {shown(document.id)}"
    text = document.text
    entity = read_entity(document)
    if not text or text.isspace():
        raise DataError(f"{place}: the document is empty; write its text or leave it out")
    outline = read_outline(document) if sections else make_outline(())
    whole = Passage(document.id, document.id, text, heading, entity, SEPARATOR.join(outline.path_at(0)))
    if surely_fits(heading + text if heading else text):
        return [whole]
    room = _make_room(place, heading, count_tokens, max_tokens)
    if room.count(text) <= room.limit:
        return [whole]
    pieces = _cut_sections(text, outline, room) if outline.sections else _cut_text(text, room)
    return [
        Passage(
            f"{document.id}#{number}",
            document.id,
            text[start:end],
            heading + _name_section(outline.path_before(start), room),
            entity,
            SEPARATOR.join(outline.path_at(start)),
        )
        for number, (start, end) in enumerate(pieces, start=1)
    ]


class _Room(NamedTuple):
    """How much of a text fits beside its heading."""

    place: str  # of the document, for errors
    heading: str
    count: Callable[[str], int]  # what a text adds to its heading, as tokens may join at the seam
    limit: int
    count_tokens: Callable[[str], int]
    max_tokens: int


def _make_room(place: str, heading: str, count_tokens: Callable[[str], int], max_tokens: int) -> _Room:
    spent = count_tokens(heading) if heading else 0
    limit = max_tokens - spent
    if limit < max_tokens / 2:
        raise DataError(
            f"{place}: its heading has {spent} tokens, expected at most {max_tokens // 2}, half of "
            f"max_tokens: {shown(heading)}; shorten its title or leave headings out"
        )
    count = cache(lambda part: count_tokens(heading + part) - spent if heading else count_tokens(part))
    return _Room(place, heading, count, limit, count_tokens, max_tokens)


def _cut_text(text: str, room: _Room) -> list[Span]:
    """Parts of a text that ends at ends of sentences, as few as possible, of about equal length."""
    spans = [
        part
        for sentence in find_sentences(text)
        for part in cut_stretch(text, sentence, count_tokens=room.count, limit=room.limit)
    ]
    counts = [room.count(text[start:end]) for start, end in spans]
    for (start, end), tokens in zip(spans, counts, strict=True):
        if tokens > room.limit:
            raise DataError(
                f"{room.place}: the character {shown(text[start:end])} has {tokens} tokens, at most "
                f"{room.limit} fit; raise max_tokens"
            )
    sentences = _Sentences(text, spans, [0, *accumulate(counts)], room.count)
    cuts = _cut_evenly(sentences, room.limit, longest=max(counts))
    return [Span(spans[first].start, spans[last - 1].end) for first, last in pairwise(cuts)]


def _cut_sections(text: str, outline: Outline, room: _Room) -> list[Span]:
    """Parts of a text that begin at headings where they can."""

    def fits(span: Span) -> bool:
        line = _name_section(outline.path_before(span.start), room)
        return room.count_tokens(room.heading + line + text[span.start : span.end].strip()) <= room.max_tokens

    pieces: list[Span] = []
    for span in cut_at_headings(text, outline, fits):
        stripped = next(spans_between(text, span), None)
        if stripped is None:
            continue
        if fits(stripped):
            pieces.append(stripped)
            continue
        heading = room.heading + _name_section(outline.path_at(span.start), room)
        inner = _make_room(room.place, heading, room.count_tokens, room.max_tokens)
        first = stripped.start
        parts = _cut_text(text[first : stripped.end], inner)
        pieces += [Span(first + part.start, first + part.end) for part in parts]
    return pieces


def _name_section(path: Sequence[str], room: _Room) -> str:
    """The line that names the sections a passage stands under: as many of the lower ones as leave room."""
    for first in range(len(path)):
        line = f"{SEPARATOR.join(path[first:])}\n"
        if room.count_tokens(room.heading + line) <= room.max_tokens * _SECTION_SHARE:
            return line
    return ""


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
    on_problem: Callable[[DataError], None] | None = None,
    sections: bool = False,
) -> Iterator[Passage]:
    """Split documents into passages with unique ids, one document after another; see `split_document`.

    Args:
        documents: in any number; none is held.
        count_tokens: of a text.
        max_tokens: of a passage with its heading.
        heading: title or date of a document, to stand on its passages; ends with a line feed unless empty.
        surely_fits: whether a text has at most `max_tokens` for certain, without counting.
        on_problem: told why a document is left out; None: that is an error.
        sections: whether documents are cut at their headings first; see `split_document`.

    Raises:
        DataError: a document is empty, has a heading that does not fit, or ids clash; with `on_problem`, only
            when that is so of all documents.
    """
    seen = SeenIds()
    split, problem = 0, None
    for document in documents:
        try:
            passages = split_document(
                document,
                count_tokens=count_tokens,
                max_tokens=max_tokens,
                heading=heading(document),
                surely_fits=surely_fits,
                sections=sections,
            )
            _refuse_known_ids(document, passages, seen)
        except DataError as error:
            if on_problem is None:
                raise
            problem = problem or error
            on_problem(error)
            continue
        split += 1
        yield from passages
    if on_problem is not None and not split:
        first = f"; the first: {problem}" if problem else ""
        raise DataError(f"no document could be split into passages{first}")


def _refuse_known_ids(document: Document, passages: Sequence[Passage], seen: SeenIds) -> None:
    """Add the ids of a document's passages to those that were seen."""
    for passage in passages:
        if not seen.add(passage.id):
            raise DataError(
                f"{document.source or 'documents'}: passage id {shown(passage.id)} is taken by document "
                f"{shown(_find_owner(passage, seen))}; give one of them another id"
            )


def _find_owner(passage: Passage, seen: SeenIds) -> str:
    """The document that another passage with this id must be of.

    Either the one with this very id, which was not split, or the one with this id but for its number.
    """
    whole, _, number = passage.id.rpartition("#")
    split = number.isdigit() and f"{whole}#1" in seen and whole != passage.document_id
    return whole if split else passage.id
