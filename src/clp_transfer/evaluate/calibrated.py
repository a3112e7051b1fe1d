"""A classification task of the paper that also asks how likely each answer is without the document."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

CALIBRATED = ("acc_pmi", "acc_length_normalised")


class CalibratedTask(ConfigurableTask):  # type: ignore[misc]
    """One of our task files, with two more metrics beside its own, which stay what the harness makes of the file.

    `acc_pmi`: the answer y with the largest log p(y | document, cue) − log p(y | cue), the pointwise mutual
    information of answer and document. The cue is the prompt's last line, which says that a topic or a sentiment
    comes now: the domain premise of Holtzman et al. 2021, "Surface Form Competition", equation 3; the `Answer:` of
    Brown et al. 2020, section 2.4. For sentence pairs, y is the answer with the sentence after it, the cue "richtig?".

    `acc_length_normalised`: the largest log-likelihood per UTF-8 byte of the answer without its leading space. (The
    harness's own `acc_norm` divides by characters, its `acc_bytes` by bytes that include such a space.)

    Where answers tie, the first is taken. `config`: the task file as a dictionary, `metadata.cue` in it.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        mean = {"aggregation": "mean", "higher_is_better": True}
        metrics = [*config["metric_list"], *({"metric": name, **mean} for name in CALIBRATED)]
        self.cue = config["metadata"]["cue"]
        super().__init__(config={**config, "metric_list": metrics})

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """The harness's requests, one for each answer, then one for each answer without the document.

        The latter are the same for every document, but for sentence pairs; the harness computes equal requests once.
        """
        requests = super().construct_requests(doc, ctx, **kwargs)
        answers = [request.args[1] for request in requests]
        return requests + [
            Instance(
                request_type="loglikelihood",
                doc=doc,
                arguments=premise,
                idx=len(answers) + number,
                metadata=kwargs["metadata"],
            )
            for number, premise in enumerate(without_document(self.cue, answers))
        ]

    def process_results(self, doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, Any]:
        """The file's metrics for a document, and the two of ours."""
        answers = self.doc_to_choice(doc)
        given, alone = results[: len(answers)], results[len(answers) :]
        scores = np.array([score for score, _ in given])
        sizes = np.array([len(answer.strip().encode()) for answer in answers])
        chosen = (scores - np.array([score for score, _ in alone]), scores / sizes)
        return super().process_results(doc, given) | {
            name: float(np.argmax(values) == doc["label"]) for name, values in zip(CALIBRATED, chosen, strict=True)
        }


def without_document(cue: str, answers: list[str]) -> list[tuple[str, str]]:
    """(context, continuation) of each answer after the cue alone.

    Sentence pairs are answers that begin alike, up to the cue: what precedes the cue is left out.
    """
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*answers, strict=False))
    alike = "".join(letters[0] for letters in same).rstrip()
    start = len(alike) if alike.endswith(cue) else 0
    return [(cue, answer[start:]) for answer in answers]
