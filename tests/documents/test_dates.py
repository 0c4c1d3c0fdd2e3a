import os
from datetime import date

import pytest

from demask.documents.dates import find_date, find_dates, is_newer
from demask.documents.load import load_documents
from demask.documents.places import find_place
from demask.errors import DataError
from demask.records import Document

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("on 2025-03-31", date(2025, 3, 31), date(2025, 3, 31)),
        ("in 2025-02 and", date(2025, 2, 1), date(2025, 2, 28)),
        ("am 31.3.2025", date(2025, 3, 31), date(2025, 3, 31)),
        ("on 3 May 2025", date(2025, 5, 3), date(2025, 5, 3)),
        ("on the 3rd of May, 2025", date(2025, 5, 3), date(2025, 5, 3)),
        ("on Sept. 3, 2025", date(2025, 9, 3), date(2025, 9, 3)),
        ("in February 2024", date(2024, 2, 1), date(2024, 2, 29)),
    ],
)
def test_dates_are_read_in_many_forms(text, first, last):
    (found,) = find_dates(text)
    assert found.stretch == (first, last)


@pytest.mark.parametrize(
    "text", ["in 1990", "2025-13-40", "31 February 2025", "1.2.3", "version 2.10.2024.1"]
)
def test_what_is_no_date_is_none(text):
    assert list(find_dates(text)) == []


def test_the_field_comes_before_the_text_and_the_text_before_the_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("It rained.")
    os.utime(path, (0, 0))
    (document,) = load_documents(path).documents
    assert find_date(document) == (date(1970, 1, 1), date(1970, 1, 1), "file")
    dated = Document("a", "In May 2024 and June 2023 it rained.", "", str(path))
    assert find_date(dated) == (date(2024, 5, 1), date(2024, 5, 31), "text")
    told = Document("a", dated.text, "", str(path), {"date": 2022})
    assert find_date(told) == (date(2022, 1, 1), date(2022, 12, 31), "field")


def test_a_field_that_is_no_date_is_named():
    with pytest.raises(DataError, match=r"a.jsonl line 2: date is 'soon', expected one as 2025-03-31"):
        find_date(Document("a", "It rained.", "", "a.jsonl line 2", {"date": "soon"}))


def test_a_date_within_another_is_not_newer_and_times_of_files_compare_with_their_like():
    def at(value, **file):
        return find_date(Document("a", "It rained.", "", "", {"date": value}))

    assert is_newer(at("2025-03"), at("2025-02-28")) is True
    assert is_newer(at("2025-02-28"), at("2025-03")) is False
    assert is_newer(at("2025-03"), at("2025-03-31")) is None
    assert is_newer(at("2025"), None) is None
    of_file = at("2025-03-01")._replace(origin="file")
    assert is_newer(of_file, at("2024")) is None
    assert is_newer(of_file, of_file._replace(first=date(2020, 1, 1), last=date(2020, 1, 1))) is True


def test_a_place_counts_the_lines_of_the_file(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("\n\n# Orlin\n\nIt has 30 workers.\n")
    (document,) = load_documents(path).documents
    assert find_place(document, document.text.index("It")) == f"{path} line 5"
