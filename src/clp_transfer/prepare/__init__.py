"""Stage `prepare`: texts become train and validation splits, tokenizers and packed token files."""
