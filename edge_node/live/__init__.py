"""The live page: what the node sees, reads and how it stands, in a browser (docs/live.md)."""
