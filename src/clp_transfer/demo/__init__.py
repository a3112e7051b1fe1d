"""A local page on which several models go on with the same German beginning, side by side."""
