"""What both sides of Lamplight speak: frames, packing, queues, transport. Never imports torch."""
