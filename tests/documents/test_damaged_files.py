"""Whatever a file is, it takes one line to say so, bounded time and bounded memory."""

import io
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demask.documents import text_files
from demask.documents.load import DocumentReader, load_documents
from demask.documents.parsing import ParserProcess
from demask.errors import DataError, RunError

Write = Callable[[str, str | bytes], Path]
WritePdf = Callable[..., Path]
OLD_WORD = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600)


def refusal(path: Path) -> str:
    """What is said about a file, without its path; always one line."""
    with pytest.raises(DataError) as caught:
        load_documents([path])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def zipped(**parts: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return file.getvalue()


# PDF


def test_a_truncated_pdf_is_refused(write: Write, write_pdf: WritePdf) -> None:
    path = write("b.pdf", write_pdf("a.pdf", [["Text."]]).read_bytes()[:600])
    assert refusal(path).startswith(": a damaged or truncated PDF (")


def test_an_encrypted_pdf_needs_its_password(write_pdf: WritePdf) -> None:
    path = write_pdf("a.pdf", [["Text."]], password="secret")
    assert refusal(path) == ": locked by a password; save it without one"


def test_a_scanned_pdf_needs_its_text_recognised(write_pdf: WritePdf) -> None:
    assert refusal(write_pdf("a.pdf", [[], []])) == (
        ": no text layer on any of 2 pages, probably scans; recognise their text first, "
        "for example with ocrmypdf"
    )


def test_a_pdf_without_pages_is_refused(tmp_path: Path) -> None:
    pypdfium2 = pytest.importorskip("pypdfium2")
    pdf = pypdfium2.PdfDocument.new()
    pdf.save(str(tmp_path / "a.pdf"))
    pdf.close()
    assert refusal(tmp_path / "a.pdf") == ": a PDF without pages; get it again"


# DOCX


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": no readable .docx (File is not a zip file); save it again"),
        (b"plain text", ": no readable .docx (File is not a zip file); save it again"),
        (OLD_WORD, ": an old .doc or locked by a password; open it in Word and save it as .docx"),
        (zipped(a=b"x"), ": a ZIP archive but no .docx; unpack it and give its files"),
        (zipped(**{"[Content_Types].xml": b"<a/>"}), ": a damaged .docx ("),
    ],
)
def test_what_is_no_docx_is_refused(write: Write, content: bytes, message: str) -> None:
    assert refusal(write("a.docx", content)).startswith(message)


BOMB_BYTES = 257 * 2**20  # expanded
BOMB_SAYS = ": expands to more than 268,435,456 bytes; is it a .docx? save it without pictures, or as text"


def write_bomb(path: Path, *, says: int | None = None) -> None:
    """A package with one part that expands to much, written bit by bit; it may say a smaller size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as package:
        package.writestr("[Content_Types].xml", b"<a/>")
        with package.open("word/document.xml", "w") as part:
            for _ in range(BOMB_BYTES // 2**20):
                part.write(bytes(2**20))
    if says is not None:
        data = path.read_bytes()
        path.write_bytes(data.replace(BOMB_BYTES.to_bytes(4, "little"), says.to_bytes(4, "little")))


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    write_bomb(tmp_path / "a.docx")
    assert refusal(tmp_path / "a.docx") == BOMB_SAYS


def test_a_zip_bomb_that_hides_its_size_is_refused(tmp_path: Path) -> None:
    write_bomb(tmp_path / "a.docx", says=1000)
    assert refusal(tmp_path / "a.docx").startswith(": no readable .docx (Bad CRC-32")


# HTML


def test_a_page_of_50_mb_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    assert refusal(path) == (
        ": 50,000,000 bytes, expected at most 20,000,000 for one document; split it into several"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": no HTML; save the page again or leave the file out"),
        (b"<nav>Home</nav>", ": no text in this page but navigation; save the article as text"),
        (b"<div>" * 3000 + b"text", ": elements are nested too deep to be read; save the text alone"),
        (b"<p>one\n\xff\xfe", " line 2: byte 0xff is not utf-8; save the page as UTF-8"),
        (
            b"<meta charset=utf-8>caf\xe9",
            " line 1: byte 0xe9 is not utf-8, which the page declares; save the page as UTF-8",
        ),
        (
            b"<meta charset=klingon>caf\xe9",
            ": declares the unknown encoding 'klingon'; save the page as UTF-8",
        ),
        (b"<meta charset=hex>caf\xe9", ": declares the unknown encoding 'hex'; save the page as UTF-8"),
        (b"<p>a\0b", ": a NUL byte, so the file is not a page; expected HTML"),
    ],
)
def test_a_damaged_page_is_refused(write: Write, content: bytes, message: str) -> None:
    assert refusal(write("a.html", content)) == message


# Files that are none


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.parquet", "a.pdf", "a.html", "a.docx"])
def test_a_pipe_is_refused_and_never_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert refusal(tmp_path / name) == ": a pipe or a device, expected a file; write its content to a file"


def test_a_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to("/dev/zero")
    assert refusal(tmp_path / "a.txt").startswith(": a pipe or a device")


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "a.txt")
    assert refusal(tmp_path / "a.txt") == ": a link to nothing or to itself; mend it or leave it out"


def test_a_link_to_itself_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"a\.txt: cannot be read \(Too many levels of symbolic links\)"):
        load_documents([tmp_path])


def test_a_file_that_grows_while_it_is_read_is_refused(write: Write) -> None:
    path = write("a.jsonl", '{"text": "One."}\n{"text": "Two."}\n')
    documents = iter(DocumentReader([path]))
    next(documents)
    with path.open("a") as file:
        file.write('{"text": "Three."}\n')
    with pytest.raises(DataError) as caught:
        list(documents)
    message = f"{path}: changed while it was read; try again when nothing writes to it"
    assert str(caught.value) == message


def test_a_parsed_file_that_changes_meanwhile_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.html", "<p>One.")
    ask = ParserProcess._ask

    def change(parser: ParserProcess, asked: Path) -> object:
        reply = ask(parser, asked)
        path.write_text("<p>Another.")
        return reply

    monkeypatch.setattr(ParserProcess, "_ask", change)
    assert refusal(path).startswith(": changed while it was read")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_text_or_a_line_without_end_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(text_files, "MAX_BYTES", 100)
    monkeypatch.setattr(text_files, "_BLOCK", 10)
    monkeypatch.setattr(text_files.read_bytes, "__kwdefaults__", {"max_bytes": 100})
    message = refusal(write(name, "text\n" + "x" * 200))
    assert "205 bytes, expected at most 100" in message or message.startswith(" line 2: longer than 100")


# The process that parses


@pytest.fixture
def parser() -> Iterator[ParserProcess]:
    with ParserProcess() as running:
        yield running


def child(parser: ParserProcess) -> "subprocess.Popen[bytes]":
    assert parser._process is not None
    return parser._process


def is_gone(number: int) -> bool:
    """Ended and waited for, so that it is no zombie either."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return False


def test_one_process_parses_many_files(write: Write, parser: ParserProcess) -> None:
    path = write("a.html", "<p>One.")
    parser.parse(path)
    first = child(parser).pid
    assert parser.parse(path).text == "One."
    assert child(parser).pid == first


def test_a_file_that_takes_too_long_is_given_up_and_the_next_is_read(write: Write) -> None:
    path = write("a.html", "<p>One.")
    with ParserProcess(time_limit=1) as parser:
        parser.parse(path)
        number = child(parser).pid
        os.kill(number, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(DataError, match=r"takes more than 1 s to read; split the file or convert it"):
            parser.parse(path)
        assert time.monotonic() - begun < 3
        assert is_gone(number)
        assert parser.parse(path).text == "One."


def test_a_file_that_kills_its_parser_is_named_and_the_next_is_read(
    write: Write, parser: ParserProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.html", "<p>One.")
    parser.parse(path)
    start = ParserProcess._start

    def start_and_kill(self: ParserProcess) -> "subprocess.Popen[bytes]":
        process = start(self)
        process.send_signal(signal.SIGSEGV)
        return process

    with monkeypatch.context() as patch:
        patch.setattr(ParserProcess, "_start", start_and_kill)
        with pytest.raises(DataError, match=r"a\.html: reading it failed \(status -11\); split the file"):
            parser.parse(path)
    assert parser.parse(path).text == "One."


def test_the_memory_of_the_parser_is_bounded(write: Write) -> None:
    path = write("a.html", "<p>One</p>" * 300_000)
    with (
        ParserProcess(memory_limit=128 * 2**20) as parser,
        pytest.raises(DataError, match=r"takes more than 134,217,728 bytes of memory to read"),
    ):
        parser.parse(path)


@pytest.mark.parametrize("how", ["close", "error", "interrupt"])
def test_the_parser_is_gone_however_reading_ends(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    started: list[int] = []
    start = ParserProcess._start

    def note(self: ParserProcess) -> "subprocess.Popen[bytes]":
        process = start(self)
        started.append(process.pid)
        return process

    monkeypatch.setattr(ParserProcess, "_start", note)
    write("a.html", "<p>One.")
    write("b.html", b"")
    documents = DocumentReader([tmp_path]).__iter__()
    next(documents)
    if how == "close":
        documents.close()  # type: ignore[attr-defined]
    elif how == "error":
        with pytest.raises(DataError):
            next(documents)
    else:

        def interrupt(*_: object) -> bytes:
            raise KeyboardInterrupt

        monkeypatch.setattr(ParserProcess, "_read_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(documents)
    assert started
    assert all(map(is_gone, started))


def test_a_missing_library_is_an_error_even_when_going_on(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ParserProcess, "_ask", lambda self, path: {"missing": "lxml"})
    path = write("a.html", "<p>One.")
    with pytest.raises(RunError) as caught:
        load_documents([path], keep_going=True)
    assert str(caught.value) == f"{path}: reading it needs lxml: pip install 'demask[documents]'"


# Going on


def test_the_rest_is_read_only_when_asked(write: Write, tmp_path: Path) -> None:
    bad, _ = write("a.txt", ""), write("b.txt", "Text.")
    with pytest.raises(DataError):
        load_documents([tmp_path])
    loaded = load_documents([tmp_path], keep_going=True)
    assert [document.id for document in loaded.documents] == ["b"]
    problem = f"{bad}: the document is empty; write its text or leave the file out"
    assert [report.problem for report in loaded.reports] == [problem, ""]


def test_what_stands_before_a_bad_line_is_kept_and_counted(write: Write) -> None:
    path = write("a.jsonl", '{"text": "One two."}\n{"text": 5}\n{"text": "Three."}\n')
    loaded = load_documents([path], keep_going=True)
    (report,) = loaded.reports
    assert [document.text for document in loaded.documents] == ["One two."]
    assert (report.documents, report.characters, report.kept) == (1, 7, 7)
    assert report.problem == f"{path} line 2: text is 5, expected a string"


def test_nothing_readable_is_an_error_even_when_going_on(write: Write, tmp_path: Path) -> None:
    write("a.txt", "")
    path = write("a.html", "")
    with pytest.raises(DataError) as caught:
        load_documents([tmp_path], keep_going=True)
    problem = f"{path}: no HTML; save the page again or leave the file out"
    assert str(caught.value) == f"no document could be read from 2 files; the first: {problem}"


def test_an_id_that_is_taken_stops_one_file_only(write: Write, tmp_path: Path) -> None:
    write("a.jsonl", '{"id": "x", "text": "One."}')
    second = write("b.jsonl", '{"id": "x", "text": "Two."}')
    write("c.txt", "Three.")
    loaded = load_documents([tmp_path], keep_going=True)
    assert [document.text for document in loaded.documents] == ["One.", "Three."]
    assert loaded.reports[1].problem.startswith(f"{second} line 1: id 'x' is taken by {tmp_path}/a.jsonl")
