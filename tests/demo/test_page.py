"""The page, served for real on a free port with tiny models."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from clp_transfer.demo.models import Opened
from clp_transfer.demo.page import HOST, serve
from clp_transfer.demo.write import Sampling, write
from clp_transfer.errors import UserError

BEGINNING = "The green house"


@pytest.fixture
def served(opened):
    """The address of a page with two models that are there and one that is not."""
    pytest.importorskip("gradio", reason="the extra `demo` is not installed: pip install -e '.[demo]'")
    models = [opened, Opened("gone", error="there is no folder <x>"), Opened("again", opened.model, opened.tokenizer)]
    page, address = serve(models, 0, block=False)
    yield address
    page.close()


def test_it_streams_what_the_models_write(served, opened) -> None:
    from gradio_client import Client

    client = Client(served, verbose=False)
    job = client.submit(BEGINNING, 0.8, 0.95, 0, 12, 7, api_name="/write")
    states = list(job)
    expected = BEGINNING + write(opened, BEGINNING, Sampling(tokens=12, seed=7))
    assert tuple(states[-1]) == (expected, "", expected)
    assert len(states) > 5
    assert any(first and not last for first, _, last in states), "one model after the other"
    with pytest.raises(Exception, match="the context of tiny"):
        client.predict("the house " * 60, 0.8, 0.95, 0, 12, 7, api_name="/write")


def test_the_page_tells_of_a_missing_model_and_loads_nothing_from_elsewhere(served) -> None:
    with urllib.request.urlopen(served) as answer:
        page = answer.read().decode()
    assert "gone</b> is not here: there is no folder &lt;x&gt;" in page.encode().decode("unicode_escape")
    for part in page.split("<")[1:]:
        tag = part.split(">")[0]
        if tag.startswith(("script", "link", "img", "iframe")):
            assert "http" not in tag.replace(served.rstrip("/"), "") or 'rel="canonical"' in tag, tag


def test_only_this_machine_can_reach_it(served) -> None:
    port = int(served.rstrip("/").rpartition(":")[2])
    assert served.startswith(f"http://{HOST}:")
    with socket.socket() as other:
        other.settimeout(2)
        # All of 127/8 is this machine; a server on every address would answer here too.
        assert other.connect_ex(("127.0.0.2", port)) != 0


def test_a_taken_port_is_told(opened) -> None:
    pytest.importorskip("gradio", reason="the extra `demo` is not installed: pip install -e '.[demo]'")
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken"):
            serve([opened], port, block=False)
    with pytest.raises(UserError, match="port 99999999 cannot be used"):
        serve([opened], 99999999, block=False)


def test_without_gradio_it_says_how_to_get_it(opened, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(UserError, match="needs gradio") as told:
        serve([opened], 0, block=False)
    assert "make demo" in told.value.remedy
