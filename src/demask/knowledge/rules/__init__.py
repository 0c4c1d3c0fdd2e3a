"""QA pairs that rules make of English texts, for those who have no language model to write them."""
