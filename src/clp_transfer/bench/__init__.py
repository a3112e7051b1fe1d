"""Ours and a peer, measured side by side in one run: `python -m clp_transfer.bench [part …] [--quick]`."""
