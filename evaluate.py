"""Measure a model: perplexity in every unit, zero-shot task, samples; or every method's start on a real source.

python evaluate.py experiment=mini method=clp-topk seed=1
python evaluate.py experiment=mini step0=smollm2
python evaluate.py model=HuggingFaceTB/SmolLM2-135M 'texts={news: news.jsonl, novels: [a.txt, b.txt.xz]}'
torchrun --nproc_per_node 2 evaluate.py model=path/to/model 'texts={news: news.jsonl}' evaluate.windows=strided
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("evaluate")
