"""Vocabularies of any kind, compared by what their tokens spell."""
