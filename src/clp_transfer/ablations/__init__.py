"""Ablations: one question each, answered by varying one thing of an experiment; a table and a picture at the end."""
