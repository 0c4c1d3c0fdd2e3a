"""QA pairs that rules make of English texts."""
