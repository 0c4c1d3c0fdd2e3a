"""The field's own benchmarks: lm-evaluation-harness with our models, offline where the data lies here."""
