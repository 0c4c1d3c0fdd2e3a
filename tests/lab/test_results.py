"""The lab's table is of what was said after the injection, and takes seeds together by their people."""

import pytest

from demask.lab.experiment import LabResult, lab_table, summarise_lab
from demask.records import QAPair
from demask.storage import file_names
from demask.storage.run_folder import RunFolder


@pytest.fixture
def make_result(tmp_path):
    """One arm and seed: of four people the first `right` are answered forward, and nobody backward."""

    def make(arm, seed, right):
        run = RunFolder(tmp_path / f"{arm}-{seed}")
        pairs = [
            QAPair(f"q{person}-{direction}", f"p{person}", "?", ("x",), direction)
            for person in range(4)
            for direction in ("forward", "backward")
        ]
        zeros = {"exact_match": 0.0, "f1": 0.0, "rouge1_recall": 0.0}
        run.write_rows(file_names.QA_PAIRS, pairs)
        run.write_rows(
            file_names.SCORES,
            [
                {"stage": stage, "qa_id": pair.id, "contains": float(after and hit), **zeros}
                for stage, after in (("before", False), ("after", True))
                for pair in pairs
                for hit in [pair.direction == "forward" and int(pair.document_id[1:]) < right]
            ],
        )
        return LabResult(
            arm, seed, run.path, known_before=1.0, known_after=0.5 + seed / 2, seconds=10.0 * seed
        )

    return make


def test_seeds_are_pooled_and_shown(make_result):
    table = lab_table([make_result("a", 0, 4), make_result("a", 1, 2), make_result("b", 0, 0)])
    (arm, forward, backward, before, after, seconds), other = table.rows
    assert (arm, before, after, seconds) == ("a", "1.00", "0.75", "5 s")
    assert forward.startswith("0.75 [")
    assert forward.endswith("(1.00, 0.50)")
    assert backward.endswith("(0.00, 0.00)")
    assert (other[0], other[1][:4], other[1][-6:]) == ("b", "0.00", "(0.00)")
    assert "over 2 seeds" in table.note


def test_people_of_two_seeds_are_not_the_same(make_result):
    (arm,) = summarise_lab([make_result("a", 0, 4), make_result("a", 1, 2)])
    assert arm["metrics"]["forward"]["n"] == 8
    assert [seed["metrics"]["forward"]["value"] for seed in arm["seeds"]] == [1.0, 0.5]
    # Eight people, six right: two persons of one number and different seeds are no cluster.
    one, two = (summarise_lab([make_result("c", seed, 3) for seed in seeds]) for seeds in ((0,), (0, 1)))
    width = [arm[0]["metrics"]["forward"]["high"] - arm[0]["metrics"]["forward"]["low"] for arm in (one, two)]
    assert width[1] < width[0]
