"""Other wordings of passages by a language model, and their checks."""
