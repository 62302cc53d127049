"""What both sides of Lamplight speak: frames, packing, queues, transport. Never imports torch."""

import os

# What gRPC has to say comes as errors of the calls; it reads this when it is imported. Otherwise whoever knocks at a
# cloud node without a certificate writes into its log.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# ONNX Runtime (1.29 and newer, on Linux too) tells Microsoft of machine, models and run times, and keeps a device's
# number in the user's cache, unless this is set before its first session.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
