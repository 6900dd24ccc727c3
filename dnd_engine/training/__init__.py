"""Makes generators: task folders, prompt-task batches, the training loop and its checkpoints."""
