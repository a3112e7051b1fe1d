"""Model cards: the README.md that a saved model carries."""

from __future__ import annotations

from pathlib import Path

from yaml import YAMLError

from clp_transfer import __version__
from clp_transfer.files import write_text

TEMPLATE = """---
language: "{language}"
{licence}library_name: transformers
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


def write_card(
    folder: Path, *, title: str, language: str, base_model: str, body: str, licence: str | None = None
) -> None:
    """Write `README.md` into a model folder; `licence` is the base model's, where it is known."""
    line = f"license: {licence}\n" if licence else ""
    text = TEMPLATE.format(
        title=title, language=language, base_model=base_model, body=body, version=__version__, licence=line
    )
    write_text(folder / "README.md", text)


def read_licence(folder: Path) -> str | None:
    """The licence that a model's own card states; None where it states none."""
    from huggingface_hub import metadata_load

    card = folder / "README.md"
    try:
        stated = metadata_load(card) if card.is_file() else None
    except (ValueError, YAMLError):  # no UTF-8, or a header that is no YAML
        return None
    licence = (stated or {}).get("license")
    return str(licence) if licence else None
