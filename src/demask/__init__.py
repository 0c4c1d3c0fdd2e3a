"""Teach an open-weight language model new facts from plain documents, both ways round, and prove it.

import demask

result = demask.inject(model="embedded", documents="facts/", qa="questions.jsonl", out="runs/first")
result.summary["metrics"]["after"]["backward"]["contains"]["value"]
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from demask.documents.load import load_documents
    from demask.errors import ConfigError, DataError, DemaskError, ModelError, RunError
    from demask.knowledge.files import load_qa_pairs
    from demask.recipe.sections import RunConfig, make_config
    from demask.records import Document, QAPair
    from demask.storage.locks import request_stop
    from demask.tasks.fine_tune import fine_tune
    from demask.tasks.inject import Injected, inject

# Loaded on first use, so that `demask --help` and `import demask` stay quick.
_HOMES = {
    "ConfigError": "errors",
    "DataError": "errors",
    "DemaskError": "errors",
    "Document": "records",
    "Injected": "tasks.inject",
    "ModelError": "errors",
    "QAPair": "records",
    "RunConfig": "recipe.sections",
    "RunError": "errors",
    "fine_tune": "tasks.fine_tune",
    "inject": "tasks.inject",
    "load_documents": "documents.load",
    "load_qa_pairs": "knowledge.files",
    "make_config": "recipe.sections",
    "request_stop": "storage.locks",
}

__all__ = [
    "ConfigError",
    "DataError",
    "DemaskError",
    "Document",
    "Injected",
    "ModelError",
    "QAPair",
    "RunConfig",
    "RunError",
    "__version__",
    "fine_tune",
    "inject",
    "load_documents",
    "load_qa_pairs",
    "make_config",
    "request_stop",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'demask' has no attribute {name!r}")
    return getattr(importlib.import_module(f"demask.{_HOMES[name]}"), name)
