from __future__ import annotations

import json

from clp_transfer.json_strings import json_strings


def test_every_value_and_no_key():
    document = json.loads('{"a": "one", "b": [1, null, "two", {"c": ["three", []]}], "d": true, "e": ""}')
    assert list(json_strings(document)) == ["one", "two", "three", ""]
    assert list(json_strings("alone")) == ["alone"] and list(json_strings(3)) == []
