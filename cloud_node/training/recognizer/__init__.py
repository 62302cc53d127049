"""Teaches the text recogniser to read in the dark: `python -m cloud_node.training recognizer`."""
