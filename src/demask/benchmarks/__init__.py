"""Published sets of documents and questions, as records."""
