"""Eight invented documents and their questions, for `demask quickstart`."""
