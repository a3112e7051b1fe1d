"""A model folder: found, its tables read row by row, rewritten shard by shard, verified; never built as a model."""
