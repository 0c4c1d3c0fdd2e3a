"""reStructuredText by docutils; TeX, Org and AsciiDoc by pandoc."""

from collections.abc import Callable
from pathlib import Path

import pytest

from demask.documents import paths
from demask.documents.load import load_documents
from demask.documents.markup_files import parse_by_pandoc, parse_restructured_text
from demask.documents.parsed import Parsed
from demask.errors import DataError

Write = Callable[[str, str | bytes], Path]
needs_pandoc = pytest.mark.skipif(not paths.find_pandocs(), reason="there is no pandoc")
RST = """\
=======
Pumping
=======

Intro with ``code``, :ref:`the part <part>`, :class:`~pkg.Pump`, a `bad ref`_ and [1]_.

.. toctree::

   one

Parts
=====

.. versionadded:: 3.4
   The red pump.

.. py:function:: start(pump, *, speed=3)
   :module: pkg

   Starts the pump.

=====  =====
Name   Size
=====  =====
Orlin  5 m
=====  =====

+--+
| broken
+-----+

.. code-block:: python

   def f():
       return 1

* `A <http://a>`_
* `B <http://b>`_
* `C <http://c>`_

.. a comment

.. [1] The footnote.
"""


@pytest.fixture
def read(write: Write) -> Parsed:
    return parse_restructured_text(write("a.rst", RST))


def test_rst_has_title_and_sections(read: Parsed) -> None:
    assert read.title == "Pumping"
    sections = read.metadata["sections"]
    assert isinstance(sections, list)
    assert [section[1:] for section in sections] == [[1, "Pumping"], [2, "Parts"]]


@pytest.mark.parametrize(
    "kept",
    [
        "Intro with code, the part, Pump, a bad ref and [1].",
        "3.4",
        "The red pump.",
        "start(pump, *, speed=3)",
        "Starts the pump.",
        "Name: Orlin; Size: 5 m.",
        "broken",
        "def f():\n    return 1",
        "- A\n- B\n- C",
        "The footnote.",
    ],
)
def test_rst_keeps_text_also_of_what_docutils_does_not_know(read: Parsed, kept: str) -> None:
    assert kept in read.text


def test_what_is_no_text_of_an_rst_file_is_named(read: Parsed) -> None:
    assert {part.reason for part in read.left_out} == {"directive toctree", "comments"}
    assert "a comment" not in read.text


@pytest.mark.parametrize(
    "directive",
    [
        ".. include:: {secret}\n",
        ".. literalinclude:: {secret}\n",
        ".. raw:: html\n   :file: {secret}\n",
        ".. csv-table:: T\n   :file: {secret}\n",
    ],
)
def test_rst_reads_no_other_file(write: Write, directive: str) -> None:
    secret = write("secret.txt", "hush, hush")
    path = write("a.rst", "Text.\n\n" + directive.format(secret=secret))
    assert "hush" not in parse_restructured_text(path).text


TEX = r"""\documentclass{article}\title{Pumping}
\begin{document}\maketitle
\section{Parts}
The pump\footnote{Of Orlin.} is \emph{red}. \foo{hidden} \input{SECRET}
\begin{itemize}\item one \item two\end{itemize}
\end{document}
"""
ORG = '#+TITLE: Pumping\n* Parts\nThe pump is /red/.\n#+INCLUDE: "SECRET"\n- one\n- two\n'
ADOC = "= Pumping\n\n== Parts\n\nThe pump is *red*.\n\ninclude::SECRET[]\n\n* one\n* two\n"


@needs_pandoc
@pytest.mark.parametrize(("name", "text"), [("a.tex", TEX), ("a.org", ORG), ("a.adoc", ADOC)])
def test_pandoc_reads_title_sections_and_lists_and_no_other_file(write: Write, name: str, text: str) -> None:
    secret = write("secret.tex", "hush, hush")
    path = write(name, text.replace("SECRET", str(secret)))
    (document,) = (loaded := load_documents([path])).documents
    assert document.title == "Pumping"
    assert "- one\n- two" in document.text
    assert "is red." in document.text
    assert "hush" not in document.text
    sections = document.metadata["sections"]
    assert isinstance(sections, list)
    assert [section[1:] for section in sections][-1] == [2, "Parts"]
    assert "other files included" in {part.reason for part in loaded.reports[0].left_out}


@needs_pandoc
def test_marks_of_footnotes_are_no_part_of_a_word_and_skipped_words_are_named(write: Write) -> None:
    parsed = parse_by_pandoc(write("a.tex", TEX))
    assert "The pump[1] is" in parsed.text
    assert "Of Orlin." in parsed.text
    skipped = [part for part in parsed.left_out if part.reason == "what pandoc does not read"]
    assert [part.sample for part in skipped] == ["\\foo{hidden}"]


@needs_pandoc
def test_a_macro_that_never_ends_is_refused_in_a_line(write: Write) -> None:
    path = write("a.tex", r"\newcommand{\a}{\a\a}\begin{document}\a hello\end{document}")
    with pytest.raises(DataError) as refused:
        load_documents([path])
    assert str(refused.value).startswith(f"{path}: pandoc cannot read it (")
    assert "\n" not in str(refused.value)


def test_without_pandoc_the_way_out_is_named(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "find_pandocs", lambda: ())
    path = write("docs/a.tex", TEX)
    with pytest.raises(DataError, match=r"install pandoc, which reads it, or pip install 'demask\[pandoc\]'"):
        load_documents([path])
    write("docs/b.txt", "Text.")
    assert load_documents([tmp_path / "docs"]).skipped == (str(path),)


@pytest.mark.parametrize("name", ["a.rst", "a.tex", "a.org"])
@pytest.mark.parametrize("content", [b"", b"\n \n", b"\x00\xff rubbish", bytes(range(256))])
def test_a_source_without_text_is_refused(write: Write, name: str, content: bytes) -> None:
    if name != "a.rst" and not paths.find_pandocs():
        pytest.skip("there is no pandoc")
    with pytest.raises(DataError, match=r"no text in this|a NUL byte|byte 0x"):
        load_documents([write(name, content)])
