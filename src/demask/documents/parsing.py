"""PDF, HTML, office files, books and mails, parsed in a child process: so no file can hang or fill this one.

    with ParserProcess() as parser:
        parsed = parser.parse(Path("manual.pdf"))
        parsed.text, parsed.metadata, parsed.left_out

One process parses many files, as it takes 0.1 to 0.4 s to start; after a crash or a time-out the next file
gets a new one. It is killed when the block ends, however that happens. The child is this module, too:

    python -m demask.documents.parsing SECONDS BYTES

takes one JSON list a line, the path of a file, and of an archive also a folder to expand it into, and
answers each with one line: the fields of `Parsed` or `Expanded`, or `{"problem": line}`, or
`{"missing": module}`. It ends when its input does, after more than SECONDS with one file, or when it wants
more than BYTES of memory.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import astuple
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from demask.documents.archives import MAX_EXPANDED, Expanded, expand
from demask.documents.parsed import LeftOut, Parsed, one_line
from demask.documents.text_files import open_file, refuse_changes
from demask.errors import DataError, RunError
from demask.signals import kill_session

# For one file. A PDF of 1,000 full pages took 8 s on a busy core.
TIME_LIMIT = 120
# Address space, of which those 1,000 pages took 315 MB.
MEMORY_LIMIT = 2 * 2**30
# Of one answer: all text of a file as JSON.
_LONGEST_ANSWER = 2**30
_READ = 2**16
OUT_OF_MEMORY = 99  # the exit status
_PRINTED = 2**20  # bytes of warnings and tracebacks that are kept


# The module and the function that reads a kind of file; imported when one comes.
_PARSERS = {
    ".pdf": ("pdf_files", "parse_pdf"),
    ".html": ("html_files", "parse_html"),
    ".htm": ("html_files", "parse_html"),
    ".xhtml": ("html_files", "parse_html"),
    ".docx": ("docx_files", "parse_docx"),
    ".epub": ("package_files", "parse_epub"),
    ".odt": ("package_files", "parse_odt"),
    ".pptx": ("office_files", "parse_slides"),
    ".xlsx": ("office_files", "parse_sheets"),
    ".rtf": ("office_files", "parse_rich_text"),
    ".ipynb": ("message_files", "parse_notebook"),
    ".eml": ("message_files", "parse_mail"),
    ".mbox": ("message_files", "parse_mail"),
    ".srt": ("message_files", "parse_subtitles"),
    ".vtt": ("message_files", "parse_subtitles"),
    ".rst": ("markup_files", "parse_restructured_text"),
    ".tex": ("markup_files", "parse_by_pandoc"),
    ".org": ("markup_files", "parse_by_pandoc"),
    ".adoc": ("markup_files", "parse_by_pandoc"),
    ".asciidoc": ("markup_files", "parse_by_pandoc"),
}


class ParserProcess:
    """A process that parses files, one after another; started when the first file comes."""

    def __init__(self, *, time_limit: int = TIME_LIMIT, memory_limit: int = MEMORY_LIMIT) -> None:
        self._time_limit = time_limit
        self._memory_limit = memory_limit
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes]  # what the process prints, for the case that it fails

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill the process, if there is one, and wait until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            kill_session(process, self._errors)

    def parse(self, path: Path) -> Parsed:
        """Parse one file.

        Raises:
            DataError: it cannot be used, takes too long or too much memory, or changes meanwhile.
            RunError: a library is missing.
        """
        reply = self._answer(path)
        left_out = tuple(LeftOut(*part) for part in reply.pop("left_out"))
        return Parsed(**reply, left_out=left_out)

    def expand(self, path: Path, folder: Path) -> Expanded:
        """Write the files of an archive that are read into a folder; see `archives.expand`.

        Raises:
            DataError: it cannot be used, takes too long or too much memory, or changes meanwhile.
        """
        return Expanded(**self._answer(path, folder))

    def _answer(self, path: Path, *folder: Path) -> Any:
        """What the process answers about a file."""
        before = _status(path)
        reply = None
        try:
            reply = self._ask(path, *folder)
        finally:
            if reply is None:
                self.stop()
        refuse_changes(path, before, _status(path))
        if "missing" in reply:
            raise RunError(f"{path}: reading it needs {reply['missing']}: pip install 'demask[documents]'")
        if "problem" in reply:
            raise DataError(reply["problem"])
        return reply

    def _ask(self, path: Path, *folder: Path) -> Any:
        """Send a path and wait for the answer, but not for ever."""
        process = self._start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has died; then there is no answer either
            process.stdin.write(json.dumps([str(path), *map(str, folder)]).encode() + b"\n")
        answer = self._read_line(path, process)
        if not answer.endswith(b"\n"):
            raise DataError(f"{path}: {self._last_words(process)}; split the file or convert it to text")
        return json.loads(answer)

    def _start(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.stop()
            limits = (str(self._time_limit + 1), str(self._memory_limit))
            # -P: no module of the current folder is taken for one of the libraries. A session of its own,
            # as Ctrl-C is for this process, which then ends that one.
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "demask.documents.parsing", *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
                bufsize=0,
            )
        return self._process

    def _last_words(self, process: "subprocess.Popen[bytes]") -> str:
        """Why the process ended: the end of its traceback, or its status."""
        status = process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines() or [f"status {status}"]
        if status == OUT_OF_MEMORY:
            return f"takes more than {self._memory_limit:,} bytes of memory to read"
        return f"reading it failed ({one_line(lines[-1])[:200]})"

    def _read_line(self, path: Path, process: "subprocess.Popen[bytes]") -> bytes:
        """One line of the process, or what it said before it ended."""
        assert process.stdout is not None
        pipe, said, end = process.stdout.fileno(), bytearray(), time.monotonic() + self._time_limit
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not said.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise DataError(
                        f"{path}: takes more than {self._time_limit} s to read; "
                        "split the file or convert it to text"
                    )
                part = os.read(pipe, _READ)
                said += part
                if not part or len(said) > _LONGEST_ANSWER:
                    break
        return bytes(said)


def _status(path: Path) -> os.stat_result:
    with open_file(path) as file:
        return os.fstat(file.fileno())


def parse_file(path: Path) -> Parsed:
    """Parse one file by its suffix."""
    module, function = _PARSERS[path.suffix.lower()]
    parse: Callable[[Path], Parsed] = getattr(import_module(f"demask.documents.{module}"), function)
    return parse(path)


def answer(path: Path, *folder: Path) -> dict[str, object]:
    """What to say about a file, or about an archive and the folder that it is expanded into."""
    try:
        if folder:
            with _writing(MAX_EXPANDED):
                return expand(path, *folder)._asdict()
        parsed = parse_file(path)
    except DataError as error:
        return {"problem": str(error)}
    except ModuleNotFoundError as error:
        return {"missing": str(error.name)}
    except RecursionError:
        return {"problem": f"{path}: nested too deep to be read; save the text alone"}
    return {
        **parsed._asdict(),
        "left_out": [astuple(part) for part in parsed.left_out],
    }


@contextlib.contextmanager
def _writing(size: int) -> Iterator[None]:
    """Let this process write files of so many bytes."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def limit_resources(memory: int) -> None:
    """Let the system refuse this process more; where it cannot, there is no limit."""
    import resource

    for what, size in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, _PRINTED)):
        _, highest = resource.getrlimit(what)
        # macOS knows the limit of memory and refuses to set it.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (size, highest))


def main(seconds: int, memory: int) -> int:
    """Answer until there is nothing more to do; the exit status."""
    # What libraries print must not get between the answers.
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    limit_resources(memory)
    for line in sys.stdin:
        # Ends this process even when nobody is left to do it.
        signal.alarm(seconds)
        try:
            replies.write(json.dumps(answer(*map(Path, json.loads(line)))) + "\n")
        except MemoryError:
            return OUT_OF_MEMORY
        signal.alarm(0)
        replies.flush()
    return 0


if __name__ == "__main__":
    # At once: cleaning up may need memory that there is not.
    os._exit(main(int(sys.argv[1]), int(sys.argv[2])))
