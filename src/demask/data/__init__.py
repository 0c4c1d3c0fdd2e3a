"""Prompts with responses, and running text, as token ids: on disk, or read as they come."""
