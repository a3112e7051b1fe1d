"""Pretrain a model: the miniature's source and helper, or a target arm.

python train.py experiment=mini run=source
python train.py experiment=mini method=clp-topk seed=1
torchrun --nproc_per_node 2 train.py experiment=mini method=clp-topk deepspeed=zero2
python train.py -m experiment=mini method=clp,ridge optim.lr=1e-3,2e-3
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("train")
