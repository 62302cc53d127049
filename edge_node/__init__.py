"""The node beside the camera: takes frames, sends the dark ones off, reads what comes back. Never imports torch."""
