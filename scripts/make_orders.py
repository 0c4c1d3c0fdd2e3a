"""Write the data of the tutorial on fine-tuning: what customers say, and how the order book has it.

    python scripts/make_orders.py docs/orders

Nothing in it is real. `train.jsonl` has prompts with responses, `test.jsonl` questions about other orders, in
the form of `demask evaluate`.
"""

import json
import random
import sys
from pathlib import Path

CUSTOMERS = (
    "Halvorsen",
    "Okafor",
    "Lindqvist",
    "Baptiste",
    "Tanaka",
    "Moreau",
    "Szabo",
    "Iyer",
    "Novak",
    "Quinn",
)
ITEMS = (
    "brass hinges",
    "oak dowels",
    "felt pads",
    "copper rivets",
    "pine shelves",
    "steel brackets",
    "glass knobs",
    "cork discs",
    "wax candles",
    "linen cords",
)
WORDINGS = (
    "Please put {number} {item} aside for {customer}, at {price} each.",
    "{customer} rang: {number} {item}, and we agreed on {price} apiece.",
    "Could we have {number} of the {item}? The price was {price}. Regards, {customer}",
    "Note for the office. {item}, {number} of them, {price} each, goes to {customer}.",
    "At {price} a piece {customer} takes {number} {item}.",
    "I am {customer} and would like to order {item}: {number} of them at {price}.",
)
TASK = "Enter this in the order book: "
SEED = 20261128
TRAINED, TESTED = 160, 40


def make_orders() -> list[tuple[str, str]]:
    """What is said and what is written down, each order once."""
    rng = random.Random(SEED)
    orders: dict[str, str] = {}
    while len(orders) < TRAINED + TESTED:
        order = {
            "customer": rng.choice(CUSTOMERS),
            "item": rng.choice(ITEMS),
            "number": rng.randint(2, 60),
            "price": f"{rng.randint(20, 999) / 100:.2f}",
        }
        said = TASK + rng.choice(WORDINGS).format(**order)
        orders[said] = "{customer} / {item} / {number} x {price}".format(**order)
    return list(orders.items())


def write_orders(folder: Path) -> None:
    """Write both files."""
    orders = make_orders()
    trained = [{"prompt": said, "response": written} for said, written in orders[:TRAINED]]
    tested = [
        {
            "id": f"order-{number}",
            "document_id": f"order-{number}",
            "question": said,
            "answers": [written],
            "direction": "forward",
        }
        for number, (said, written) in enumerate(orders[TRAINED:], start=1)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train.jsonl", trained), ("test.jsonl", tested)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    write_orders(Path(sys.argv[1]))
