"""The engine alone: fastembed's class, and the plain callable beneath it."""

from fastembed_stream import Runtime, TextEmbedding, open_model

NAME = "fastembed-stream/all-MiniLM-L6-v2-int8"  # comes with the extra `demo`

model = TextEmbedding(NAME)
[document] = model.embed(["Files are read line by line."])
[query] = model.query_embed("how do I read a file?")
print(f"{query @ document:.2f}")

with open_model(NAME, runtime=Runtime(device="cpu", threads=2)) as embed:
    vectors = embed(["A stream of text", "A table of numbers"])
    print(len(vectors), vectors[0].shape, embed.counts)
