"""Draw questions that rules make of documents, to be read and judged one by one; needs the extra `questions`.

    python scripts/draw_rule_questions.py MANUAL.pdf FOLDER ... --count 60 --seed 31

Printed are the number of words and questions of all documents, and for each question that is drawn its id,
its direction, the question and its answer.
"""

import argparse
import random

from demask.documents.load import load_documents
from demask.progress import Silent
from demask.stages.questions import make_pairs


def main() -> None:
    """Make questions of the documents that the command line names, and print some."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("documents", nargs="+")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    documents = load_documents(options.documents).documents
    words = sum(len(document.text.split()) for document in documents)
    pairs = make_pairs(documents, writer=None, progress=Silent()).pairs
    print(f"{words:,} words, {len(pairs):,} questions, {1000 * len(pairs) / words:.2f} per 1,000 words")
    for pair in random.Random(options.seed).sample(pairs, min(options.count, len(pairs))):
        print(f"{pair.id}\t{pair.direction}\t{pair.question}\t{pair.answers[0]}")


if __name__ == "__main__":
    main()
