"""The page: teach a model from documents, watch it, ask it; what needs torch is another process."""
