"""The config schema as plain dataclasses, and how a config becomes a stage's job."""
