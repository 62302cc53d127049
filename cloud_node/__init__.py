"""The node that lights dark frames up: gRPC in, a scheduler, LAE-GAN on the device, NATS out."""
