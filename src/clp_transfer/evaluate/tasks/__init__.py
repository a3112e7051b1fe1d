"""The task files of lm-evaluation-harness: the paper's German tasks, and functions that they name."""
