"""Threads wait briefly for each other, unless the user has said how; a library leaves its program alone."""

import os
import subprocess
import sys

import pytest

from demask.openmp import SPIN_COUNT, wait_briefly


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.usefixtures("without_torch")
def test_threads_spin_briefly_and_no_fewer_are_asked_for() -> None:
    environment = {"PATH": "/bin"}
    assert wait_briefly(environment)
    assert environment == {"PATH": "/bin", "GOMP_SPINCOUNT": str(SPIN_COUNT)}


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize(
    "variable", ["OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "GOMP_CPU_AFFINITY", "KMP_BLOCKTIME"]
)
def test_what_the_user_has_set_stays(variable: str) -> None:
    environment = {variable: "1"}
    assert not wait_briefly(environment)
    assert environment == {variable: "1"}


def test_nothing_is_set_where_torch_has_read_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", os)
    environment: dict[str, str] = {}
    assert not wait_briefly(environment)
    assert environment == {}


def run(code: str) -> str:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))
    }
    done = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_library_changes_no_variable() -> None:
    assert (
        run("import os; b = dict(os.environ); import demask, demask.cli; print(b == dict(os.environ))")
        == "True"
    )


def test_a_command_sets_it_before_it_runs() -> None:
    code = (
        "import os, sys, demask.cli as cli\n"
        "cli.app = lambda **how: print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
    )
    assert run(code) == f"{SPIN_COUNT} False"


def test_a_worker_sets_it_before_torch_is_imported() -> None:
    code = (
        "import os, sys, demask.worker as worker\n"
        "def stop(): print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules); sys.exit()\n"
        "worker.end_with_parent = stop\n"
        "worker.main([])\n"
    )
    assert run(code) == f"{SPIN_COUNT} False"
