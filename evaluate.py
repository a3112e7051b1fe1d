"""Measure a model: perplexity in every unit, zero-shot task, samples; or every method's start on a real source.

python evaluate.py experiment=mini method=clp-topk seed=1
python evaluate.py experiment=mini step0=smollm2
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("evaluate")
