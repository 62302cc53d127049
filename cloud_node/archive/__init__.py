"""Enhancing archives of images: resumable, each image once, on one machine or over a Ray cluster (docs/archive.md)."""
