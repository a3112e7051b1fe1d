"""Stage `clp`: initialise a target-language model from a source model and a small helper."""
