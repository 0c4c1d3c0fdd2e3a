"""Objectives as pure functions from a passage to an example."""
