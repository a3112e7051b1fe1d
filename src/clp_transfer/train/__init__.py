"""Stage `train`: pretrain a model on a packed corpus, alone or under DeepSpeed ZeRO."""
