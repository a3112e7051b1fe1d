"""The page, made by gradio: a beginning, the sampling settings, and one column for each model."""

from __future__ import annotations

import errno
import html
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from clp_transfer.demo.models import Opened
from clp_transfer.demo.write import Sampling, stream
from clp_transfer.errors import UserError

HOST = "127.0.0.1"
DEFAULTS = Sampling()
BEGINNINGS = ["Der Baum ist", "Die Stadt liegt", "Im Jahr 1871", "Eine Frau, die"]
TITLE = "Go on in German"
WORDS = "The same German beginning, continued by each model with the same settings and seed, one after the other."


def build(models: Sequence[Opened]) -> Any:
    """The gradio page; raises UserError where gradio is not installed."""
    gradio = _gradio()
    with gradio.Blocks(title=TITLE, analytics_enabled=False) as page:
        gradio.Markdown(f"# {TITLE}\n{WORDS}")
        beginning = gradio.Textbox(label="German beginning", value=BEGINNINGS[0], lines=3, max_length=4000)
        gradio.Examples(BEGINNINGS, beginning, label="Beginnings")
        with gradio.Row():
            go = gradio.Button("Go on", variant="primary")
            halt = gradio.Button("Stop")
        with gradio.Row():
            settings = _settings(gradio)
        with gradio.Row():
            outputs = [_column(gradio, opened) for opened in models]
        inputs = [beginning, *settings]
        running = [
            starts(run, inputs, outputs, concurrency_limit=1, api_name=name)
            for starts, name, run in ((go.click, "write", writer(models)), (beginning.submit, False, writer(models)))
        ]
        halt.click(None, cancels=running, api_name=False)
    return page


def _settings(gradio: Any) -> list[Any]:
    return [
        gradio.Slider(0, 2, DEFAULTS.temperature, step=0.05, label="temperature", info="0: always the likeliest token"),
        gradio.Slider(0.01, 1, DEFAULTS.top_p, step=0.01, label="top-p", info="1: off"),
        gradio.Slider(0, 200, DEFAULTS.top_k, step=1, label="top-k", info="0: off"),
        gradio.Slider(1, 500, DEFAULTS.tokens, step=1, label="tokens", info="at most"),
        gradio.Number(DEFAULTS.seed, precision=0, label="seed", info="the same seed writes the same text"),
    ]


def _column(gradio: Any, opened: Opened) -> Any:
    """A model's column; of one that could not be loaded, the reason."""
    with gradio.Column(min_width=260):
        if opened.error:
            gradio.Markdown(f"⚠️ <b>{html.escape(opened.name)}</b> is not here: {html.escape(opened.error)}")
        return gradio.Textbox(
            label=opened.name, lines=12, interactive=False, visible=not opened.error, buttons=["copy"], autoscroll=True
        )


def writer(models: Sequence[Opened]) -> Callable[..., Iterator[list[str]]]:
    """The page's function: after every token the texts of all columns, beginning included."""

    def run(
        beginning: str, temperature: float, top_p: float, top_k: float, tokens: float, seed: float | None
    ) -> Iterator[list[str]]:
        texts = ["" for _ in models]
        try:
            sampling = Sampling(temperature, top_p, int(top_k), int(tokens), int(seed or 0))
            for column, opened in enumerate(models):
                if opened.error:
                    continue
                for text in stream(opened, beginning, sampling):
                    texts[column] = beginning + text
                    yield list(texts)
        except UserError as error:
            raise _gradio().Error(str(error), print_exception=False) from error
        yield list(texts)

    return run


def serve(models: Sequence[Opened], port: int, *, block: bool = True, open_browser: bool = False) -> tuple[Any, str]:
    """Serve the page to this machine alone; returns it and its address, at once unless it is to `block`.

    `port` 0 takes a free one. Raises UserError where the port is taken or not allowed.
    """
    page = build(models)
    port = _free(port)
    _, address, _ = page.queue(default_concurrency_limit=1).launch(
        server_name=HOST, server_port=port, share=False, inbrowser=open_browser, prevent_thread_lock=True, quiet=True,
        show_error=True, ssr_mode=False, pwa=False, enable_monitoring=False, run_history=False, footer_links=[],
        theme=_theme(),
    )  # fmt: skip
    if block:
        print(f"{address} (Ctrl-C ends it)", flush=True)
        page.block_thread()
    return page, address


def _free(port: int) -> int:
    """The port, if it can be had; any free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            taken = getattr(error, "errno", None) == errno.EADDRINUSE
            problem = f"port {port} is taken by another program" if taken else f"port {port} cannot be used: {error}"
            raise UserError(problem, "choose another: make demo ARGS='--port 7861' (0: any free one)") from error
        return int(probe.getsockname()[1])


def _theme() -> Any:
    """Gradio's look with this machine's own fonts: its themes would fetch theirs."""
    return _gradio().themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def _gradio() -> Any:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # no calls home
    try:
        import gradio
    except ImportError as error:
        raise UserError("the demo needs gradio", "make demo installs it, or: pip install -e '.[demo]'") from error
    return gradio
