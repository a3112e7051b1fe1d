"""Stage `evaluate`: perplexity in every unit, zero-shot tasks, and step-0 values of each transfer method."""
