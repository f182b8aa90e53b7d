"""Tasks: what the encoder is trained and fine-tuned for."""
