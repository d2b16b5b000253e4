"""One module for each family of models: its recipe, how it opens, and how its rows are run."""
