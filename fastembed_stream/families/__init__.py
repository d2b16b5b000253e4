"""One module for each family of models: how its rows are read, padded and finished."""
