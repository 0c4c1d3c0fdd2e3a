"""The headings of Markdown.

for offset, level, title in find_markdown_sections(text): ...
"""

import re

from demask.documents.parsed import one_line

_HEADING = re.compile(r" {0,3}(?P<level>#{1,6})[ \t]+(?P<title>.*?)(?:[ \t]+#+)?[ \t]*")
_UNDERLINE = re.compile(r"(?:=+|-{2,})[ \t]*")
_UNDERLINED = re.compile(r" {0,3}[^\s#>|*+-].*")
_FENCE = re.compile(r" {0,3}(?:```|~~~)")


def find_markdown_sections(text: str) -> list[list[object]]:
    """The headings of a Markdown text, as [offset, level, title]; no comments in blocks of code."""
    in_code = False
    offset = 0
    found: list[list[object]] = []
    above, before = "", ""  # the two lines before
    for line in text.split("\n"):
        if _FENCE.match(line):
            in_code = not in_code
        heading = None if in_code else _HEADING.fullmatch(line)
        if heading and heading["title"]:
            found.append([offset, len(heading["level"]), one_line(heading["title"])])
        elif not in_code and _is_underlined(above, before, line):
            found.append([offset - len(before) - 1, 1 if line[0] == "=" else 2, one_line(before)])
        offset += len(line) + 1
        above, before = before, line
    return found


def _is_underlined(above: str, line: str, below: str) -> bool:
    """Whether a line is a heading that is underlined by `=` or `-`, and no end of a paragraph or a table."""
    return bool(not above.strip() and _UNDERLINED.fullmatch(line) and _UNDERLINE.fullmatch(below))
