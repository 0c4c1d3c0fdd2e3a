"""The text of notebooks, e-mails and subtitles: formats that are text with something around it.

parse_notebook(Path("a.ipynb"))     # Markdown and code; what programs printed is left out
parse_mail(Path("a.eml"))           # or .mbox: subject, sender, day and body of each message
parse_subtitles(Path("a.srt"))      # or .vtt: the words, without times
"""

import email
import email.policy
import json
import re
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

from demask.documents.html_files import parse_page
from demask.documents.markdown import find_markdown_sections
from demask.documents.parsed import LeftOut, Parsed, add_up, count_characters, one_line, sum_up
from demask.documents.text_files import read_any_text, read_bytes, read_text
from demask.errors import DataError

_FROM = re.compile(rb"(?m)^From .*\n")
_QUOTE = re.compile(r"(?m)^>.*\n?")
_SIGNATURE = re.compile(r"(?ms)^-- \n.*\Z")
_TIME = re.compile(r"(?m)^(?:\d+\s*\n)?(?:\d+:)?\d+:\d+[.,]\d+ --> .*\n?")
_HEAD = re.compile(r"\A(?:WEBVTT.*?(?:\n\n|\Z))?(?:(?:NOTE|STYLE|REGION)\b.*?(?:\n\n|\Z))*", re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}")


def parse_notebook(path: Path) -> Parsed:
    """Read one Jupyter notebook.

    Raises:
        DataError: it is none, or holds no text.
    """
    try:
        cells = json.loads(read_text(path))["cells"]
        sources = [(cell["cell_type"], "".join(cell["source"]).strip("\n"), cell) for cell in cells]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: no notebook of version 4 ({type(error).__name__}); save it again"
        ) from error
    texts = [f"```\n{text}\n```" if kind == "code" else text for kind, text, _ in sources if text]
    if not texts:
        raise DataError(f"{path}: no text in this notebook; leave it out")
    text = "\n\n".join(texts)
    outputs = [
        ("output of code", json.dumps(cell["outputs"])) for _, _, cell in sources if cell.get("outputs")
    ]
    sections = find_markdown_sections(text)
    metadata: dict[str, object] = {"sections": sections} if sections else {}
    kept = sum(count_characters(source) for _, source, _ in sources)
    return Parsed(text, str(sections[0][2]) if sections else "", metadata, kept, sum_up(outputs))


def parse_mail(path: Path) -> Parsed:
    """Read one e-mail, or all of an .mbox.

    Raises:
        DataError: there is no text in it.
    """
    data = read_bytes(path)
    parts = _FROM.split(data) if path.suffix.lower() == ".mbox" else [data]
    left_out: list[LeftOut] = []
    texts: list[str] = []
    sections: list[list[object]] = []
    length = 0
    day = ""
    for part in parts:
        message = email.message_from_bytes(part, policy=email.policy.default)
        body = _read_body(message, str(path), left_out)
        if not body:
            continue
        subject = one_line(str(message["subject"] or "")) or "(no subject)"
        head = [
            subject,
            *(f"{key}: {one_line(str(message[key]))}" for key in ("From", "Date") if message[key]),
        ]
        if texts:
            length += 2
        sections.append([length, 1, subject])
        texts.append("\n".join(head) + "\n\n" + body)
        length += len(texts[-1])
        sent = message["date"]
        day = day or (sent.datetime.date().isoformat() if sent is not None and sent.datetime else "")
    if not texts:
        raise DataError(f"{path}: no text in this mail; save it as text or leave it out")
    text = "\n\n".join(texts)
    metadata: dict[str, object] = {"sections": sections, **({"date": day} if day else {})}
    return Parsed(text, str(sections[0][2]), metadata, count_characters(text), add_up(left_out))


def _read_body(message: EmailMessage, place: str, left_out: list[LeftOut]) -> str:
    """The words of the sender; quotes, the signature and attachments are left out."""
    for attachment in message.iter_attachments():
        left_out += sum_up([("attachments", attachment.get_filename() or "attachment")])
    body = message.get_body(("plain", "html"))
    if body is None:
        return ""
    try:
        text = body.get_content()
    except (LookupError, UnicodeDecodeError, KeyError) as error:
        raise DataError(f"{place}: a message in an unknown encoding ({error}); save it as text") from error
    if body.get_content_subtype() == "html":
        try:
            page = parse_page(str(text).encode(), place)
        except DataError as error:
            left_out.append(LeftOut("messages that cannot be read", count_characters(str(text)), str(error)))
            return ""
        left_out += page.left_out
        return page.text
    text = str(text).replace("\r\n", "\n")
    for reason, pattern in (("quoted messages", _QUOTE), ("signatures", _SIGNATURE)):
        left_out += sum_up((reason, found) for found in pattern.findall(text))
        text = pattern.sub("", text)
    return text.strip()


def parse_subtitles(path: Path) -> Parsed:
    """Read the words of one film.

    Raises:
        DataError: there are none.
    """
    written, guessed = read_any_text(path)
    text = _HEAD.sub("", written)
    times = _TIME.findall(text)
    if not times:
        raise DataError(f"{path}: no subtitles, expected times as 00:01:02,000 --> 00:01:04,000")
    words = [one_line(_TAG.sub("", part)) for part in _TIME.split(text)]
    lines = list(_without_repeats(words))
    if not lines:
        raise DataError(f"{path}: no words in these subtitles; leave the file out")
    left_out = sum_up([("times of subtitles", one_line(time)) for time in times])
    text = "\n".join(lines)
    return Parsed(text, "", {}, count_characters(text), left_out, guessed)


def _without_repeats(lines: list[str]) -> Iterator[str]:
    before = ""
    for line in lines:
        if line and line != before:
            yield line
            before = line
