"""How good predicted probabilities are, how sure one can be of it, and how to show it: numbers in, numbers out."""
