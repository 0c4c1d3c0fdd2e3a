"""Objectives: what is learned of a text, one file each; the list is in registry.py."""
