"""Model cards: the README.md that a saved model carries."""

from __future__ import annotations

from pathlib import Path

from clp_transfer import __version__
from clp_transfer.files import write_text

TEMPLATE = """---
language: {language}
library_name: transformers
pipeline_tag: text-generation
base_model: {base_model}
tags: [clp-transfer]
---

# {title}

{body}

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained("."), AutoTokenizer.from_pretrained(".")
print(tokenizer.decode(model.generate(**tokenizer("Die", return_tensors="pt"), max_new_tokens=20)[0]))
```

Made with clp-transfer {version}. The licences of the base model and of the training text apply.
"""


def write_card(folder: Path, *, title: str, language: str, base_model: str, body: str) -> None:
    """Write `README.md` into a model folder."""
    text = TEMPLATE.format(title=title, language=language, base_model=base_model, body=body, version=__version__)
    write_text(folder / "README.md", text)
