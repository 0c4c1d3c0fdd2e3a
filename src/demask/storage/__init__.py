"""Files of a run: the run folder, atomic writes, locks."""
