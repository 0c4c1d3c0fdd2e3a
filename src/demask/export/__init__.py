"""Finished models for other programs: GGUF files, servers, the hub."""
