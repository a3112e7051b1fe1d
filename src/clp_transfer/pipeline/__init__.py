"""Runs an experiment's stages in the order that its config states, skipping what is complete."""
