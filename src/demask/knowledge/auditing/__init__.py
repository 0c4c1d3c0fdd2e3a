"""The audit of QA pairs: what is wrong with each, and what of the documents they leave out."""
