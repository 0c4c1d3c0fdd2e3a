"""Other wordings of passages, by a language model or by rules, and their checks."""
