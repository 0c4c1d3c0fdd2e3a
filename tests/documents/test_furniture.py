"""Of a page, text is kept and furniture is not, whatever classes and ids say: as generators write them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from demask.documents.html_files import parse_html

Write = Callable[[str, str | bytes], Path]
LONG = "<p>The lock is held until the transaction ends, and others wait for it meanwhile.</p>"


def read(write: Write, page: str) -> str:
    return parse_html(write("a.html", page)).text


@pytest.mark.parametrize(
    "word", ["sidebar", "related", "share", "menu", "comments", "navigation", "footer", "toc", "promo"]
)
@pytest.mark.parametrize("element", ['<div class="{}">', '<section id="{}">', '<aside class="{}">'])
def test_no_word_of_a_class_or_an_id_drops_text(write: Write, word: str, element: str) -> None:
    tag = element.split()[0].strip("<")
    page = f"{LONG * 4}{element.format(word)}<h2>Sharing</h2><p>Row locks are shared.</p></{tag}>{LONG}"
    assert "Sharing\n\nRow locks are shared." in read(write, page)


# As DocBook, Publican, Texinfo, Sphinx and LaTeX2HTML write them.
@pytest.mark.parametrize(
    "bar",
    [
        '<div class="navheader"><table><tr><th colspan="3">SELECT</th></tr><tr><td>'
        '<a accesskey="p" href="a">Prev</a></td><th>SQL Commands</th><td>'
        '<a accesskey="n" href="b">Next</a></td></tr></table><hr></div>',
        '<ul class="docnav"><li><a accesskey="p" href="a"><strong>Prev</strong></a></li><li>The '
        'Handbook</li><li><a accesskey="n" href="b"><strong>Next</strong>Chapter 5. Packaging</a></li></ul>',
        '<div><p>Next: <a href="#I" rel="next">Introduction</a>, Up: '
        '<a href="d.html" rel="up">(dir)</a> </p></div>',
        '<div role="navigation"><h3>Navigation</h3><ul><li><a href="i">index</a></li>'
        '<li><a href="n">next</a> |</li></ul></div>',
        '<div><a href="b"><img alt="next"></a><br><b>Next:</b> <a href="b">Boxes</a> <b>Up:</b> '
        '<a href="c">All</a> <b><a href="i">Index</a></b></div>',
    ],
)
def test_a_bar_of_links_to_the_next_page_is_left_out(write: Write, bar: str) -> None:
    text = read(write, f"{bar}<h1>Locks</h1>{LONG * 3}{bar}")
    assert text.split("\n\n")[0] == "Locks"
    assert text.endswith("meanwhile.")


def test_a_heading_has_no_mark_and_no_edit_link(write: Write) -> None:
    page = (
        f'<h2>Locks<a class="headerlink" href="#locks">¶</a> <span>[<a href="/e">edit</a>]</span></h2>{LONG}'
    )
    assert read(write, page).split("\n")[0] == "Locks"


def test_contents_with_their_label_are_left_out(write: Write) -> None:
    rows = "".join(f'<dt><a href="#s{n}">{n}.{n}. Section of locks</a></dt>' for n in range(4))
    page = f"<h1>Locks</h1><div><p><b>Table of Contents</b></p><dl>{rows}</dl></div>{LONG * 3}"
    parsed = parse_html(write("a.html", page))
    assert "Section" not in parsed.text
    assert "Contents" not in parsed.text
    assert [part.reason for part in parsed.left_out] == ["list of links"]


def test_a_list_of_links_that_a_paragraph_introduces_is_text(write: Write) -> None:
    rows = "".join(f'<li><a href="f{n}.html">flock{n}()</a></li>' for n in range(4))
    page = f"{LONG * 3}<p>These functions take locks:</p><blockquote><div><ul>{rows}</ul></div></blockquote>"
    assert "- flock0()\n- flock1()" in read(write, page)


def test_footnotes_and_tip_boxes_in_asides_are_text(write: Write) -> None:
    page = f"<main>{LONG * 2}<aside role=note><p>See <a href='#x'>[1]</a> for more.</p></aside></main>"
    assert "See [1] for more." in read(write, page)


@pytest.mark.parametrize(
    "footer",
    [
        "<div id=f><div>Last updated 2024-05-31 00:35:55 UTC</div></div>",
        "<div>© Copyright 2023, the team. Created using <a href='s'>Sphinx</a>.</div>",
    ],
)
def test_a_notice_at_the_end_of_a_page_is_its_footer(write: Write, footer: str) -> None:
    parsed = parse_html(write("a.html", f"<h1>Locks</h1>{LONG * 3}{footer}"))
    assert parsed.text.endswith("meanwhile.")
    assert [part.reason for part in parsed.left_out] == ["page footer"]


def test_what_stands_around_the_main_part_is_left_out_but_not_under_a_heading(write: Write) -> None:
    main = f"<main><h1>Locks</h1>{LONG * 3}</main>"
    page = f"<div>Our shop</div>{main}<div><h2>Notes</h2>More.</div><div>Call us</div>"
    text = read(write, page)
    assert text.startswith("Locks")
    assert text.endswith("Notes\n\nMore.")


def test_steps_of_an_ordered_list_keep_their_numbers(write: Write) -> None:
    page = "<ol start=3><li>Stop.<li><p>Look.</p></ol><ul><li>One</ul>"
    assert read(write, page) == "3. Stop.\n4. Look.\n- One"


def test_code_keeps_the_indent_of_its_first_line(write: Write) -> None:
    assert read(write, "<p>So:</p><pre>\n    if a:\n        b\n</pre>") == "So:\n\n    if a:\n        b"


def test_a_cell_with_a_colon_names_what_stands_beside_it(write: Write) -> None:
    page = "<table><tr><th>Context:</th><td>server</td></tr><tr><th>Status:</th><td>Core</td></tr></table>"
    assert read(write, page) == "Context: server.\nStatus: Core."


def test_contents_without_a_list_are_left_out(write: Write) -> None:
    entries = "".join(f"<div><a href='#s{n}'>{n}. Lock {n}</a></div>" for n in range(1, 6))
    parsed = parse_html(write("a.html", f"<h1>Locks</h1><div>Contents</div><div>{entries}</div>{LONG}"))
    assert [part.reason for part in parsed.left_out] == ["list of links"]
    assert "Lock 3" not in parsed.text
    described = entries.replace("</a>", "</a> of brass")
    assert "3. Lock 3 of brass" in read(write, f"<h1>Locks</h1><div>{described}</div>{LONG}")


def test_words_of_a_drawing_are_named(write: Write) -> None:
    drawing = (
        "<svg><title>x</title><text>SELECT</text><g><text>WITH <tspan>RECURSIVE</tspan></text></g></svg>"
    )
    parsed = parse_html(write("a.html", f"<h1>Locks</h1>{drawing}{LONG}<svg><path d='M0'/></svg>"))
    assert "SELECT" not in parsed.text
    drawn = parsed.left_out[0]
    assert (drawn.reason, drawn.characters, drawn.sample) == ("drawing", 19, "SELECT WITH RECURSIVE")
