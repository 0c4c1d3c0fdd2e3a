"""The process that parses PDF, HTML and DOCX files for `parsing.ParserProcess`; not for import.

    python -m demask.documents.parser_process SECONDS BYTES

It takes one JSON string a line, the path of a file, and answers each with one line: the fields of `Parsed`,
or `{"problem": line}`, or `{"missing": module}`. It ends when its input does, after more than SECONDS with
one file, or when it wants more than BYTES of memory.
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from demask.documents.blocks import Parsed
from demask.errors import DataError

OUT_OF_MEMORY = 99  # the exit status
_PRINTED = 2**20  # bytes of warnings and tracebacks that are kept


def parse_file(path: Path) -> Parsed:
    """Parse one file by its suffix."""
    match path.suffix.lower():
        case ".pdf":
            from demask.documents.pdf_files import parse_pdf as parse
        case ".docx":
            from demask.documents.docx_files import parse_docx as parse
        case _:
            from demask.documents.html_files import parse_html as parse
    return parse(path)


def answer(path: Path) -> dict[str, object]:
    """What to say about a file."""
    try:
        parsed = parse_file(path)
    except DataError as error:
        return {"problem": str(error)}
    except ModuleNotFoundError as error:
        return {"missing": str(error.name)}
    except RecursionError:
        return {"problem": f"{path}: nested too deep to be read; save the text alone"}
    return {
        **parsed._asdict(),
        "left_out": [(part.reason, part.characters, part.sample) for part in parsed.left_out],
    }


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
            replies.write(json.dumps(answer(Path(json.loads(line)))) + "\n")
        except MemoryError:
            return OUT_OF_MEMORY
        signal.alarm(0)
        replies.flush()
    return 0


if __name__ == "__main__":
    # At once: cleaning up may need memory that there is not.
    os._exit(main(int(sys.argv[1]), int(sys.argv[2])))
