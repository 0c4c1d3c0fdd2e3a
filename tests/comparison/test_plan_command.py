"""`demask reproduce --plan`: real steps, once for each model, and nothing is run."""

import json
from pathlib import Path

import pytest

from demask.benchmarks.sets import data_folder
from demask.cli import main
from demask.errors import DataError


@pytest.mark.parametrize("as_json", [False, True])
def test_a_plan_times_each_model_once_and_runs_nothing(
    tiny_model_folder: Path,
    tmp_path: Path,
    as_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from demask.comparison import grid

    try:
        data_folder()
    except DataError as error:
        pytest.skip(str(error))
    timed: list[str] = []
    real = grid.time_steps
    monkeypatch.setattr(
        grid, "time_steps", lambda config, progress: timed.append(config.model) or real(config, progress)
    )
    words = ["reproduce", "name-description", "--facts", "3", "--plan", "--exposures", "2"]
    words += ["--arm", "demasking", "--arm", "next-token", "--seed", "0", "--out", str(tmp_path / "out")]
    words += ["--model", str(tiny_model_folder), *(["--json"] if as_json else [])]
    monkeypatch.setattr("sys.argv", ["demask", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    printed = capsys.readouterr().out
    assert timed == [str(tiny_model_folder)]
    assert not list(tmp_path.glob("out/cells/*"))
    if as_json:
        assert all(row["seconds"] > 0 for row in json.loads(printed))
    else:
        assert "from a few real steps" in " ".join(printed.split())
