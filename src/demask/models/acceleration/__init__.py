"""The same numbers in less time or memory: packing, target logits, leaner layers, compiling."""
