"""How much of real manuals is read, and how much furniture comes in; needs w3m, pdftotext and pandoc.

    apt install w3m poppler-utils pandoc debian-policy developers-reference debian-handbook maint-guide \
        python3-doc postgresql-doc git-doc vim-doc bash-doc gnuplot-doc debian-faq nettle-dev libtasn1-doc \
        apache2-doc neomutt valgrind zsh-doc r-doc-pdf texlive-latex-recommended-doc
    python scripts/measure_reading.py [--json FILE] [WORD ...]    # only files whose path holds a word

Each file is read twice: by demask, and by another program from what is left when its furniture (prev/next
bars, contents, running heads) is taken away as a person marked it here: by XPath in pages, by page numbers
and margins in PDFs. Three shares are printed:

    found      of the other program's words, how many demask has, in any order
    in order   of them, how many stand in the same order (longest common subsequence, by git diff)
    furniture  of demask's words, how many are furniture only
"""

import argparse
import gzip
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from demask.documents.parsing import parse_file

DOC = Path("/usr/share/doc")
_SPHINX = (
    "//div[@class='related'] | //div[contains(@class,'sphinxsidebar')] | //div[@class='footer']"
    " | //a[@class='headerlink'] | //div[@class='mobile-nav'] | //nav"
    " | //div[@id='contents' or @class='contents topic']"
    " | //div[contains(@class,'toctree-wrapper')]"
)
_DOCBOOK = "//div[@class='navheader'] | //div[@class='navfooter'] | //div[@class='toc']"
_PUBLICAN = "//div[@id='banner'] | //p[@id='title'] | //ul[contains(@class,'docnav')] | //div[@class='toc']"
_ASCIIDOC = "//div[@id='footer'] | //div[@id='toc']"
_TEXINFO = (
    "//div[@class='header'] | //div[contains(@class,'Contents_element')] | //div[@class='contents']"
    " | //ul[@class='section-toc'] | //table[@class='menu'] | //div[@id='Indexes']"
)
_VIM = "//a[@href='#top']"
_APACHE = (
    "//div[@id='page-header' or @id='path' or @id='quickview' or @id='footer'] | //div[@class='toplang']"
    " | //div[@class='bottomlang'] | //div[@class='top'] | //div[@class='up']"
)
_VALGRIND = "//table[@class='nav'] | //div[@class='toc'] | //body/div[last()]"


class Margins(NamedTuple):
    """What is text in a PDF: pages from 1 on, and points from the top of each."""

    pages: tuple[tuple[int, int], ...]
    top: int
    bottom: int


class Case(NamedTuple):
    """One file and its furniture."""

    path: Path
    furniture: str | Margins = ""


CASES = [
    *(Case(DOC / "debian-handbook/html/en-US" / name, _PUBLICAN) for name in (
        "sect.apt-get.html", "sect.package-meta-information.html", "sect.quotas.html",
        "advanced-administration.html", "foreword.html",
    )),
    Case(DOC / "debian-handbook/html/ja-JP/sect.apt-get.html", _PUBLICAN),
    Case(DOC / "debian-handbook/html/fr-FR/sect.apt-get.html", _PUBLICAN),
    *(Case(DOC / "developers-reference/docs" / name, _SPHINX) for name in (
        "pkgs.html", "best-pkging-practices.html", "resources.html",
    )),
    *(Case(DOC / "debian-policy/policy.html" / name, _SPHINX) for name in (
        "ch-files.html", "ch-opersys.html", "ch-relationships.html",
    )),
    *(Case(DOC / "postgresql-doc-15/html" / name, _DOCBOOK) for name in (
        "sql-select.html", "sql-syntax-lexical.html", "runtime-config-wal.html", "datatype-numeric.html",
    )),
    *(Case(DOC / "python3-doc/html" / name, _SPHINX) for name in (
        "library/idle.html", "library/http.cookies.html", "reference/import.html", "library/functions.html",
        "tutorial/controlflow.html", "howto/regex.html", "library/wsgiref.html",
    )),
    *(Case(DOC / "git-doc" / name, _ASCIIDOC) for name in (
        "git-rebase.html", "gitglossary.html", "user-manual.html",
    )),
    *(Case(DOC / "vim/html" / name, _VIM) for name in ("options.html", "arabic.html")),
    Case(DOC / "maint-guide/html/build.en.html", _DOCBOOK),
    Case(DOC / "debian/FAQ/basic-defs.en.html", _DOCBOOK),
    Case(DOC / "debian-policy/fhs/fhs-3.0.html", _DOCBOOK),
    Case(DOC / "bash/bashref.html", _TEXINFO),
    Case(DOC / "bash/bash.html", ""),
    *(Case(DOC / "apache2-doc/manual/en/mod" / name, _APACHE) for name in ("core.html", "mod_rewrite.html")),
    Case(DOC / "neomutt/manual.html", _DOCBOOK),
    Case(DOC / "valgrind/html/manual-core.html", _VALGRIND),
    Case(DOC / "debian-policy/policy.epub"),
    Case(Path("/usr/share/developers-reference/developers-reference.epub")),
    Case(DOC / "bash/bash.pdf", Margins(((1, 87),), 52, 758)),
    Case(DOC / "bash/bashref.pdf", Margins(((7, 187),), 62, 792)),
    Case(DOC / "gnuplot/gnuplot.pdf", Margins(((21, 303),), 68, 792)),
    Case(DOC / "maint-guide/maint-guide.en.pdf", Margins(((7, 63),), 50, 842)),
    Case(Path("/usr/share/developers-reference/developers-reference.pdf"), Margins(((9, 114),), 49, 738)),
    Case(DOC / "debian-policy/policy.pdf.gz", Margins(((11, 192),), 48, 740)),
    Case(DOC / "debian-policy/fhs/fhs-3.0.pdf.gz", Margins(((1, 3), (7, 50)), 48, 743)),
    Case(DOC / "debian/FAQ/debian-faq.en.pdf.gz", Margins(((1, 2), (7, 72)), 50, 792)),
    Case(DOC / "nettle-dev/nettle.pdf.gz", Margins(((6, 104),), 62, 792)),
    Case(DOC / "libtasn1-doc/libtasn1.pdf", Margins(((1, 2), (4, 34)), 62, 792)),
    Case(DOC / "zsh-common/zsh.pdf", Margins(((1, 2), (10, 453)), 62, 842)),
    Case(Path("/usr/share/R/doc/manual/R-intro.pdf"), Margins(((1, 2), (7, 107), (113, 113)), 62, 792)),
    Case(
        DOC / "valgrind/valgrind_manual.pdf.gz",
        Margins(((13, 190), (193, 199), (201, 217), (219, 381), (383, 397)), 60, 735),
    ),
    Case(DOC / "texlive-doc/latex/memoir/memman.pdf", Margins(((23, 568),), 95, 680)),
]  # fmt: skip


class Row(NamedTuple):
    """The three shares of one file, in [0, 1], and how many words the other program found."""

    path: str
    words: int
    found: float
    in_order: float
    furniture: float
    problem: str = ""


def split_words(text: str) -> list[str]:
    """Words without case and signs."""
    return re.findall(r"[^\W_]+", text.casefold().replace("\u00ad", ""))


def count_in_order(reference: Sequence[str], words: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "a"), Path(folder, "b")
        first.write_text("\n".join(reference) + "\n")
        second.write_text("\n".join(words) + "\n")
        done = subprocess.run(
            ["git", "diff", "--no-index", "--minimal", "--numstat", str(first), str(second)],
            capture_output=True,
            text=True,
        )
    removed = int(done.stdout.split()[1]) if done.stdout else 0
    return len(reference) - removed


def compare(path: Path, text: str, reference: str, furniture: str) -> Row:
    """The shares of one file.

    Args:
        path: for its name.
        text: as demask reads it.
        reference: the other program's text without furniture.
        furniture: the furniture's text.
    """
    words, wanted, unwanted = split_words(text), split_words(reference), Counter(split_words(furniture))
    have, want = Counter(words), Counter(wanted)
    extra = sum(min(count, unwanted[word]) for word, count in (have - want).items())
    return Row(
        str(path),
        len(wanted),
        (want & have).total() / max(1, len(wanted)),
        count_in_order(wanted, words) / max(1, len(wanted)),
        extra / max(1, len(words)),
    )


def render(page: Any) -> str:
    """A page as w3m shows it."""
    from lxml import etree

    with tempfile.NamedTemporaryFile(suffix=".html") as file:
        file.write(etree.tostring(page, method="html", encoding="utf-8"))
        file.flush()
        command = ["w3m", "-dump", "-I", "UTF-8", "-O", "UTF-8", "-cols", "200", "-T", "text/html", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def read_page(path: Path, furniture: str) -> tuple[str, str]:
    """Reference and furniture of a web page."""
    from lxml import etree

    from demask.documents.html_files import decode_page

    root = etree.fromstring(
        decode_page(path.read_bytes(), str(path)).text.encode(),
        etree.HTMLParser(encoding="utf-8", huge_tree=True),
    )
    for element in root.xpath("//meta | //title | //script | //style"):
        element.drop_tree() if hasattr(element, "drop_tree") else _drop(element)
    taken = []
    for element in root.xpath(furniture) if furniture else []:
        taken.append(" ".join(element.itertext()))
        _drop(element)
    return render(root), "\n".join(taken)


def _drop(element: Any) -> None:
    """Remove an element, but not what stands behind it."""
    parent, tail = element.getparent(), element.tail or ""
    if parent is None:
        return
    before = element.getprevious()
    if before is not None:
        before.tail = (before.tail or "") + " " + tail
    else:
        parent.text = (parent.text or "") + " " + tail
    parent.remove(element)


def read_pdf(path: Path, margins: Margins) -> tuple[str, str]:
    """Reference and furniture of a PDF."""
    info = subprocess.run(["pdfinfo", str(path)], capture_output=True, text=True, check=True).stdout
    width = int(float(re.search(r"Page size:\s+([\d.]+)", info)[1])) + 1  # type: ignore[index]
    box = ["-x", "0", "-y", str(margins.top), "-W", str(width), "-H", str(margins.bottom - margins.top)]
    parts = []
    for first, last in margins.pages:
        command = ["pdftotext", "-f", str(first), "-l", str(last), *box, str(path), "-"]
        parts.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    whole = subprocess.run(["pdftotext", str(path), "-"], capture_output=True, text=True, check=True).stdout
    reference = _join_hyphens("\n".join(parts))
    left = Counter(split_words(_join_hyphens(whole))) - Counter(split_words(reference))
    return reference, " ".join(left.elements())


def _join_hyphens(text: str) -> str:
    return re.sub(r"(?<=[a-z])[-\u00ad\u2010]\n(?=[a-z])", "", text)


def read_by_pandoc(path: Path) -> tuple[str, str]:
    """Reference of an office file."""
    command = ["pandoc", "-t", "plain", "--wrap=none", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout, ""


def measure(case: Case) -> Row:
    """Read one file both ways."""
    path = case.path
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix == ".gz":
            unpacked = Path(folder, path.stem)
            unpacked.write_bytes(gzip.decompress(path.read_bytes()))
            path = unpacked
        if isinstance(case.furniture, Margins):
            reference, furniture = read_pdf(path, case.furniture)
        elif path.suffix == ".html":
            reference, furniture = read_page(path, case.furniture)
        else:
            reference, furniture = read_by_pandoc(path)
        try:
            text = parse_file(path).text
        except ValueError as error:
            return Row(str(case.path), len(split_words(reference)), 0.0, 0.0, 0.0, str(error))
    return compare(case.path, text, reference, furniture)


def main() -> None:
    """Print a table, one row a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    print(f"{'file':52} {'words':>7} {'found':>6} {'order':>6} {'furn.':>6}")
    for case in CASES:
        if arguments.words and not any(word in str(case.path) for word in arguments.words):
            continue
        row = measure(case)
        rows.append(row)
        name = "/".join(row.path.split("/")[-4:])[-52:]
        print(
            f"{name:52} {row.words:7} {row.found:6.3f} {row.in_order:6.3f} {row.furniture:6.3f} {row.problem}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps([row._asdict() for row in rows], indent=1))


if __name__ == "__main__":
    main()
