"""The text of reStructuredText, AsciiDoc, Org and TeX: written as a web page, which is then read.

    parse_restructured_text(Path("install.rst"))    # by docutils; Sphinx's directives keep their text
    parse_by_pandoc(Path("paper.tex"))              # .tex, .org, .adoc; pandoc, in its sandbox

Neither includes files or runs what a document holds.
"""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from demask.documents.html_files import parse_page
from demask.documents.parsed import Parsed, one_line, sum_up
from demask.documents.paths import find_pandocs
from demask.documents.text_files import read_any_text
from demask.errors import DataError

# How pandoc calls what it reads.
PANDOC_FORMATS = {".tex": "latex", ".org": "org", ".adoc": "asciidoc", ".asciidoc": "asciidoc"}
# What would bring in another file, which the sandbox refuses: line by line, so that the rest is read.
_INCLUDE = re.compile(
    rb"(?m)^include::.*\n?|^#\+INCLUDE:.*\n?|\\(?:input|include|subfile)\b *(?:\{[^{}\n]*\}|[^\s\\{}]+)",
    re.IGNORECASE,
)
_COMMAND = re.compile(r"\\\w+\*?|\\(?:begin|end)\{\w+\*?\}")
_NOTE_MARK = re.compile(rb"(?s)<a [^>]*doc-noteref[^>]*><sup>(\d+)</sup></a>")
_BACK_LINK = re.compile(rb"(?s)<a [^>]*doc-backlink[^>]*>.*?</a>")
_SECONDS = 100  # for pandoc; less than a file may take
# Without text of the document's own: lists of other files, settings, what would be included.
_NO_TEXT = frozenset(
    "toctree index highlight currentmodule module tabularcolumns include literalinclude raw image figure-md"
    " contents sectnum default-role default-domain automodule autoclass autofunction autosummary program"
    " cssclass rst-class testsetup testcleanup meta graphviz uml".split()
)
_DIRECTIVE = re.compile(r"(?m)^\s*\.\.\s+(?:\|[^|\n]+\|\s+)?([A-Za-z][\w:.+-]*)::(?:\s|$)")
_ROLE = re.compile(r":([A-Za-z][\w:.+-]*):`")
_TARGET = re.compile(r"(?s)(.*?)\s*<[^<>]*>\Z")
_MARKS = re.compile(r"(?s)[`|]*(.*?)[`|]*_{0,2}\Z")
_SETTINGS: dict[str, object] = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "report_level": 5,
    "halt_level": 5,
    "line_length_limit": 10**9,
    "syntax_highlight": "none",
    "embed_stylesheet": False,
    "stylesheet_path": "",
    "toc_backlinks": False,
    "math_output": "LaTeX",
}


def parse_restructured_text(path: Path) -> Parsed:
    """Read one document of docutils or Sphinx.

    Raises:
        DataError: it holds no text.
    """
    from docutils import nodes
    from docutils.core import publish_doctree, publish_from_doctree

    text, guessed = read_any_text(path)
    lost: list[tuple[str, str]] = []
    _know_all_names(text, lost)
    tree = publish_doctree(text, source_path="-", settings_overrides=_SETTINGS)
    lost += [("comments", comment.astext()) for comment in tree.findall(nodes.comment)]
    for message in list(tree.findall(nodes.system_message)):
        # What could not be parsed, such as a table whose columns do not meet, stands in the message.
        message.parent.replace(message, list(message.findall(nodes.literal_block)))
    for problem in list(tree.findall(nodes.problematic)):
        words = _MARKS.match(problem.astext())
        problem.parent.replace(problem, nodes.Text(words[1] if words else problem.astext()))
    page = publish_from_doctree(tree, writer="html5", settings_overrides=_SETTINGS)
    return _read_page(page, path, lost)._replace(guessed=guessed)


def _know_all_names(text: str, lost: list[tuple[str, str]]) -> None:
    """Tell docutils what to do with directives and roles that are not its own: keep their text."""
    from docutils.parsers.rst import directives, roles
    from docutils.parsers.rst.languages import en

    for name in set(_DIRECTIVE.findall(text)):
        if name in _NO_TEXT or name not in en.directives:
            directives.register_directive(name, _make_directive(name in _NO_TEXT, lost))
    for name in set(_ROLE.findall(text)):
        if name not in en.roles:
            roles.register_local_role(name, _keep_words)


def _make_directive(dropped: bool, lost: list[tuple[str, str]]) -> Any:
    from docutils import nodes
    from docutils.parsers.rst import Directive

    class _AnyOption(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            return str

    class _Kept(Directive):
        has_content = True
        optional_arguments = 1
        final_argument_whitespace = True
        option_spec = _AnyOption({"class": str})  # an empty one would mean that there are no options

        def run(self) -> list[Any]:
            if dropped:
                said = " ".join([*self.arguments, *map(str, self.options.values()), *self.content])
                lost.append((f"directive {self.name}", said))
                return []
            around = nodes.container()
            for words in self.arguments:
                around += nodes.paragraph("", "", *self.state.inline_text(words, self.lineno)[0])
            self.state.nested_parse(self.content, self.content_offset, around)
            return [around]

    return _Kept


def _keep_words(
    name: str, source: str, text: str, line: int, inliner: Any, options: Any = None, content: Any = None
) -> tuple[list[Any], list[Any]]:
    """A role as its words: :ref:`the title <target>`, :class:`~package.Name`."""
    from docutils import nodes, utils

    words = utils.unescape(text)
    titled = _TARGET.match(words)
    if titled and titled[1]:
        words = titled[1]
    elif words.startswith("~"):
        words = words.rpartition(".")[2].removeprefix("~")
    return [nodes.inline(source, words.removeprefix("!"))], []


def parse_by_pandoc(path: Path) -> Parsed:
    """Read one document by pandoc.

    Raises:
        DataError: there is no pandoc that reads its format, or the document is not usable.
    """
    form = PANDOC_FORMATS[path.suffix.lower()]
    program = next((one for one in find_pandocs() if form in _list_formats(one)), None)
    if program is None:
        raise DataError(
            f"{path}: no pandoc here reads {form}; pip install 'demask[pandoc]', or convert the file to .html"
        )
    text, guessed = read_any_text(path)
    data = text.encode()
    lost = [("other files included", found.decode()) for found in _INCLUDE.findall(data)]
    data = _INCLUDE.sub(b"", data)
    command = [program, "--sandbox", "--from", form, "--to", "html5", "--standalone", "--wrap=none"]
    command += ["--shift-heading-level-by=1", "--verbose"]  # sections stand below the title
    try:
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DataError(
            f"{path}: pandoc takes more than {_SECONDS} s; split the file or convert it to text"
        ) from None
    said = done.stderr.decode("utf-8", "replace")
    if done.returncode:
        reason = one_line(next((line for line in said.splitlines() if line.strip()), "no reason given"))
        raise DataError(f"{path}: pandoc cannot read it ({reason[:200]}); convert it to text")
    page = _BACK_LINK.sub(b"", _NOTE_MARK.sub(rb"[\1]", done.stdout))
    return _read_page(page, path, [*lost, *_skipped(said)])._replace(guessed=guessed)


def _skipped(said: str) -> Iterator[tuple[str, str]]:
    """What pandoc says that it left out, but for commands without words."""
    for found in re.finditer(r"(?m)^\[\w+\] Skipped '(.*?)' at ", said, re.DOTALL):
        if not _COMMAND.fullmatch(found[1]):
            yield "what pandoc does not read", found[1]


def _read_page(page: str | bytes, path: Path, lost: list[tuple[str, str]]) -> Parsed:
    data = page.encode() if isinstance(page, str) else page
    parsed = parse_page(data, str(path), converted=True)
    if not parsed.text:
        raise DataError(f"{path}: no text in this document; leave it out")
    title = "" if parsed.title == "-" else parsed.title
    return parsed._replace(title=title, left_out=(*parsed.left_out, *sum_up(lost)))


@cache
def _list_formats(program: str) -> frozenset[str]:
    done = subprocess.run([program, "--list-input-formats"], capture_output=True, text=True, check=False)
    return frozenset(done.stdout.split())
