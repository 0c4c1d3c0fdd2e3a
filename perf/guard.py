"""What moved: every measurement once more, its ratios against those on record.

    make perf                                     # says what moved by more than 15%
    make perf ARGS=--record                       # puts today's ratios on record

Ratios of two programs that ran in turn, not times: these hold on a busy machine, too, but for busy.py's.
Another processor has other ratios, so the record says on which it was made (busy.py: see docs/benchmarks.md).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from measuring import describe_machine, make_parser, print_table

HERE = Path(__file__).parent
RECORD = HERE / "recorded.json"
TOLERANCE = 0.15
MEASUREMENTS = (
    ["training.py"],
    ["training.py", "--method", "lora"],
    ["generation.py"],
    ["preparation.py"],
    ["startup.py"],
    ["busy.py"],
)


def main() -> None:
    """Measure everything; exit with 1 when something moved."""
    parser = make_parser(__doc__)
    parser.add_argument("--record", action="store_true", help="put these ratios on record")
    options = parser.parse_args()
    found: dict[str, float] = {}
    for measurement in MEASUREMENTS:
        print(" ".join(measurement), "...", file=sys.stderr, flush=True)
        found |= measure(measurement)
    if options.record:
        record = {"machine": describe_machine(), "ratios": {name: round(v, 3) for name, v in found.items()}}
        RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        print(f"{RECORD}: {len(found)} ratios on record")
        return
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    moved = find_moved(record["ratios"], found)
    if options.json:
        print(json.dumps({"recorded": record["ratios"], "found": found, "moved": moved}, indent=2))
    else:
        show(record, found, moved)
    sys.exit(bool(moved))


def measure(measurement: list[str]) -> dict[str, float]:
    """The ratios of one script."""
    command = [sys.executable, str(HERE / measurement[0]), *measurement[1:], "--json"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    ratios: dict[str, float] = json.loads(out[out.index("{") :])["ratios"]
    return ratios


def find_moved(recorded: dict[str, float], found: dict[str, float]) -> list[str]:
    """The names whose ratios differ by more than the tolerance, or are missing on one side."""
    return [
        name
        for name in recorded | found
        if name not in recorded or name not in found or abs(found[name] / recorded[name] - 1) > TOLERANCE
    ]


def show(record: dict[str, Any], found: dict[str, float], moved: list[str]) -> None:
    """As a table, what moved marked."""
    recorded = record["ratios"]
    rows = [
        [
            name,
            f"{recorded[name]:.2f}" if name in recorded else "",
            f"{found[name]:.2f}" if name in found else "",
            "moved" if name in moved else "",
        ]
        for name in recorded | found
    ]
    print_table("ratios", ["ratio", "on record", "now", ""], rows)
    if record["machine"] != describe_machine():
        print(f"\nThe record was made elsewhere: {record['machine']}")


if __name__ == "__main__":
    main()
