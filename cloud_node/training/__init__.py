"""Training of LAE-GAN: data pools, low-light synthesis and the loop. `python -m cloud_node.training --help`."""
