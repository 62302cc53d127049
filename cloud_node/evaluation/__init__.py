"""Evaluation of LAE-GAN and its peers: the paper's tables, plots and picture grids.

`python -m cloud_node.evaluation --help`.
"""
