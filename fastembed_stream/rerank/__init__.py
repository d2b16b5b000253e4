"""fastembed's path to its reranking class."""
