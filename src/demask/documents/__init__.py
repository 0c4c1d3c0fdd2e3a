"""Documents: files in, passages that fit out."""
