"""Train a model on examples."""
