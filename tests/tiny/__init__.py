"""What the tests make instead of fetching."""
