"""What of a PDF's pages is no text: running heads and page numbers, contents, indexes, numbers of code lines.

pages, dropped = drop_furniture(pages)   # dropped: (reason, text)
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from statistics import median

from demask.documents.parsed import count_characters, one_line
from demask.documents.pdf_lines import Line

RUNNING = "running header or footer"
LEADERS = "dot leaders"
_EDGE_LINES = 2  # at the top and the bottom of a page, among which running headers and footers are
_FEWEST_PAGES = 3  # on which something must be the same to be one
_BAND = 2.0  # points, within which lines of several pages stand at the same height
_APART = 1.3  # usual distances of lines, between a running head and the text
_BAND_SHARE, _APART_SHARE = 0.4, 0.8  # of the pages; of those with a line in the band
_LONGEST_HEAD = 120
_LEADER = re.compile(r"(?:[.…·_] ?){4,}[ .]*(?:\d+|[ivxlc]+)?\s*\Z|(?:\. ){3,}\.?\s*(?:\d+|[ivxlc]+)\b")
_DOTS = re.compile(r"[.…·_ ]+")
_INDEX_ENTRY = re.compile(r"[^.!?]{1,60}[, ]\s*(?:\d{1,4}|[ivxlc]+)(?:[-–, ]+\d{1,4})*\s*\Z")
_INDEX_TITLE = re.compile(r"(?:.{0,30}\b)?(?:index|indexes|register|sachverzeichnis)", re.IGNORECASE)
_CONTENTS_LINES, _CONTENTS_SHARE, _INDEX_SHARE = 5, 0.5, 0.6
_CONTENTS_TITLE = re.compile(
    r"(?:table of |short |brief |detailed )?contents|(?:inhalts(?:verzeichnis|übersicht)|inhalt)"
    r"|table des matières|sommaire|list of (?:figures|tables|examples)",
    re.IGNORECASE,
)
# Not the stop of "A." or "3.": a word stands before it.
_SENTENCE = re.compile(r"[^\W\d_]{2}[\"'”’»)\]]*[.!?][\"'”’»)\]]*\s*\Z")
_FEWEST_EXPLAINED, _EXPLAINED_SHARE = 3, 0.25  # entries with sentences below, so that they are no contents
_WORD = re.compile(r"[^\W\d_]{2}")
_CODE_NUMBER = re.compile(r"\s*(\d{1,4})(?=\s|\Z)")
_FEWEST_NUMBERED = 3  # lines


def drop_furniture(pages: Sequence[Sequence[Line]]) -> tuple[list[list[Line]], list[tuple[str, str]]]:
    """Pages without furniture, and what was dropped, as reason and text."""
    dropped: list[tuple[str, str]] = []
    kept = []
    for page, running in zip(pages, find_running_lines(pages), strict=True):
        dropped += [(RUNNING, line.text) for line in running]
        kept.append([line for line in page if line not in running])
    in_index = False
    for number, page in enumerate(kept):
        in_index = _is_index(page, after=in_index)
        if not in_index and _is_explained(page):
            kept[number], leaders = _without_leaders(page)
            dropped += [(LEADERS, text) for text in leaders]
            continue
        found = list(page) if in_index else _contents_lines(page)
        dropped += [("index" if in_index else "table of contents", line.text) for line in found]
        kept[number], numbers = _without_code_numbers([line for line in page if line not in found])
        dropped += [("numbers of code lines", text) for text in numbers]
    return kept, dropped


def count_expected(dropped: Sequence[tuple[str, str]]) -> Counter[str]:
    """Of what was dropped, the characters that are surely no text, by reason: entries with dot leaders."""
    found: Counter[str] = Counter()
    for reason, text in dropped:
        if reason == LEADERS or (reason in ("index", "table of contents") and _LEADER.search(text)):
            found[reason] += count_characters(text)
    return found


def find_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Of each page, the lines at its edges that others have too: the same words, or the same height."""
    edges = [_edges(page) for page in pages]
    counts = Counter(key for page in edges for key in {_without_numbers(line.text) for line in page})
    placed = Counter(key for page in edges for key in {_height_key(line) for line in page})
    filled = [page for page in pages if page]
    needed = max(_FEWEST_PAGES, len(filled) // 2 + 1)
    bands = _find_bands(filled)
    return [
        [
            line
            for line in page
            if counts[_without_numbers(line.text)] >= needed
            or (line.top > 0 and placed[_height_key(line)] >= _FEWEST_PAGES)
            or (len(line.text) <= _LONGEST_HEAD and any(abs(line.bottom - band) < _BAND for band in bands))
        ]
        for page in edges
    ]


def _find_bands(pages: Sequence[Sequence[Line]]) -> list[float]:
    """Heights at which many pages have their first or last line, apart from the text."""
    bands = []
    for top in (True, False):
        found: list[tuple[float, bool]] = []
        for page in pages:
            ordered = sorted(page, key=lambda line: line.bottom, reverse=top)
            rest = [line for line in ordered if abs(line.bottom - ordered[0].bottom) >= _BAND]
            if ordered[0].top > 0 and rest:
                gap = abs(ordered[0].bottom - rest[0].bottom)
                found.append((ordered[0].bottom, gap > _APART * _pitch(rest)))
        heights = Counter(round(height / _BAND) for height, _ in found)
        for place, count in heights.most_common(2):
            near = [apart for height, apart in found if abs(height / _BAND - place) <= 1]
            if count >= max(_FEWEST_PAGES, _BAND_SHARE * len(pages)) and sum(near) >= _APART_SHARE * len(
                near
            ):
                bands.append(place * _BAND)
    return bands


def _pitch(lines: Sequence[Line]) -> float:
    """The usual distance of lines."""
    gaps = [abs(first.bottom - second.bottom) for first, second in pairwise(lines)]
    return median([gap for gap in gaps if gap > 1] or [0.0])


def _edges(page: Sequence[Line]) -> list[Line]:
    """The first and the last lines from top to bottom, which need not be so in the file."""
    ordered = sorted(page, key=lambda line: -line.top)
    return ordered if len(ordered) <= 2 * _EDGE_LINES else [*ordered[:_EDGE_LINES], *ordered[-_EDGE_LINES:]]


def _height_key(line: Line) -> tuple[str, int]:
    return _without_numbers(line.text), round(line.bottom / _BAND)


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+|\b[ivxlc]+\b", "#", one_line(text).lower())


def _is_led(line: Line) -> bool:
    return _LEADER.search(line.text) is not None


def _group_led(page: Sequence[Line]) -> list[tuple[bool, list[Line]]]:
    """Runs of lines with dot leaders and without."""
    return [(led, list(group)) for led, group in groupby(page, key=_is_led)]


def _is_explained(page: Sequence[Line]) -> bool:
    """Whether sentences below them explain the entries, as in a summary of commands with the page of each."""
    groups = _group_led(page)
    explained = sum(_ends_sentence(below[-1]) for (led, _), (_, below) in pairwise(groups) if led)
    return explained >= max(_FEWEST_EXPLAINED, _EXPLAINED_SHARE * sum(led for led, _ in groups))


def _without_leaders(page: Sequence[Line]) -> tuple[list[Line], list[str]]:
    """Entries without the dots before the numbers at their ends, and the dots."""
    kept, dropped = [], []
    for line in page:
        found = _LEADER.search(line.text)
        dots = found and _DOTS.match(line.text, found.start())
        if dots:
            dropped.append(dots[0])
            text = f"{line.text[: dots.start()].rstrip()} {line.text[dots.end() :].lstrip()}".rstrip()
            line = replace(line, text=text, cells=(), kind="item")
        kept.append(line)
    return [line for line in kept if line.text], dropped


def _contents_lines(page: Sequence[Line]) -> list[Line]:
    """Lines with dot leaders, and what else stands on a page of contents, but the sentences there."""
    led = [line for line in page if _is_led(line)]
    if len(led) < _CONTENTS_LINES:
        return [line for line in led if line.text[-1:].isdigit()]
    if len(led) < _CONTENTS_SHARE * len(page):
        return led
    found: list[Line] = []
    groups = _group_led(page)
    for number, (entry, group) in enumerate(groups):
        if entry or number not in (0, len(groups) - 1):
            found += [] if not entry and _ends_sentence(group[-1]) else group
        elif number == 0:
            found += group[_count_text_above(group) :]
        else:
            found += [] if any(map(_ends_sentence, group)) else group
    return found


def _ends_sentence(line: Line) -> bool:
    return _SENTENCE.search(line.text) is not None


def _count_text_above(lines: Sequence[Line]) -> int:
    """Of the lines above the first entry, how many are text: up to a title, or else to the last sentence."""
    for number, line in enumerate(lines):
        if any(title.fullmatch(line.text.strip()) for title in (_CONTENTS_TITLE, _INDEX_TITLE)):
            return number
    ends = [number for number, line in enumerate(lines, start=1) if _ends_sentence(line)]
    return max(ends, default=0)


def _is_index(page: Sequence[Line], *, after: bool) -> bool:
    """Whether a page is one of an index: called so or behind one, its lines entries with page numbers."""
    if not page:
        return False
    titled = any(_INDEX_TITLE.fullmatch(line.text.strip()) for line in page[:3])
    entries = sum(_INDEX_ENTRY.match(line.text) is not None for line in page)
    return (titled or after) and entries >= _INDEX_SHARE * (len(page) - 3)


def _without_code_numbers(page: Sequence[Line]) -> tuple[list[Line], list[str]]:
    """Code without the numbers of its lines, where some lines in a row are numbered and most have words."""
    kept: list[Line] = []
    dropped: list[str] = []
    run: list[tuple[Line, re.Match[str]]] = []

    def close() -> None:
        worded = sum(bool(_WORD.search(found.string, found.end())) for _, found in run)
        if len(run) >= _FEWEST_NUMBERED and worded >= len(run) / 2:
            kept.extend(
                replace(line, text=found.string[found.end() :].removeprefix(" ")) for line, found in run
            )
            dropped.extend(found[1] for _, found in run)
        else:
            kept.extend(line for line, _ in run)
        run.clear()

    for line in page:
        found = _CODE_NUMBER.match(line.text) if line.kind == "code" else None
        if found is None or (run and int(found[1]) != int(run[-1][1][1]) + 1):
            close()
        if found is None:
            kept.append(line)
        else:
            run.append((line, found))
    close()
    return [line for line in kept if line.text.strip()], dropped
