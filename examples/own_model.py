"""A model of your own: one more row, known by name in this process."""

from fastembed_stream import (
    DenseText,
    LocalFolder,
    Model,
    TextEmbedding,
    catalog,
    locate,
    open_model,
)

# Here the folder of a model that is installed; in your code, a folder with the graph,
# tokenizer.json, tokenizer_config.json and config.json.
installed = catalog.find("fastembed-stream/all-MiniLM-L6-v2-int8")
folder = locate(installed)

mine = Model(
    name="me/my-model",
    dim=384,
    source=LocalFolder(path=folder),  # or HubRepository(repo=..., revision=...), Tarball(url=...)
    model_file=installed.model_file,
    recipe=DenseText(pooling="mean", normalize=True),
)
[vector] = open_model(mine)(["A stream of text"])

catalog.add(mine)  # from now on known by name in this process
[same] = TextEmbedding("me/my-model").embed(["A stream of text"])
print(vector.shape, (vector == same).all())  # (384,) True
