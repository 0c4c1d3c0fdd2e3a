"""Judge predictions."""
