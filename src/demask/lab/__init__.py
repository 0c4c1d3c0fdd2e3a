"""A small world in which the objectives are compared in minutes, with a model trained from scratch."""
