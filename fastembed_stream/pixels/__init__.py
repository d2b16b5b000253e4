"""Images to numbers: files opened safely, and made into what a graph takes."""

from fastembed_stream.pixels.files import HeldImage, held, is_image
from fastembed_stream.pixels.preprocessing import Preprocessing
from fastembed_stream.pixels.sources import ImageReader, path_of
from fastembed_stream.pixels.tiles import Tiling

__all__ = ["HeldImage", "ImageReader", "Preprocessing", "Tiling", "held", "is_image", "path_of"]
