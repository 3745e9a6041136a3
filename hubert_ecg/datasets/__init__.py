"""One module per source of recordings: which there are, of whom, with what labels and split; and how to read one."""
