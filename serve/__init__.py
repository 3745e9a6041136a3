"""The prediction service: a checkpoint behind HTTP, its client, and the commands that start them."""
