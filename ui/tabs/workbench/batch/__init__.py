"""The batch table: both models' answers to many inputs."""
