"""diffusers' switches of an autoencoder: tiling, which bounds the memory of large frames, and slicing, of batches."""

from __future__ import annotations

from vidgen.errors import VidgenError
from vidgen.tokenizers.streaming.halos import decoder_halo, encoder_halo
from vidgen.tokenizers.streaming.tiles import BlendedTiles, ExactTiles, Tiles


class MemorySwitches:
    """Tiling and slicing of a tokenizer, both off at first.

    Tiles are exact where the network's layers see a bounded neighborhood: the result is that without tiles, and there
    is no stride to choose. Networks that attend over the frame have blended tiles, which are an approximation.
    """

    use_tiling = False
    use_slicing = False
    tile_cells = (0, 0)

    def enable_tiling(self, tile_sample_min_height: int = 256, tile_sample_min_width: int = 256) -> None:
        """Run frames of more than so many pixels tile by tile; what goes on from a `state` then uses it up.

        Raises VidgenError for tiles of less than one latent cell.
        """
        f = self.config.spatial_compression_ratio
        rows, cols = tile_sample_min_height // f, tile_sample_min_width // f
        if min(rows, cols) < 1:
            size = f"{tile_sample_min_height}x{tile_sample_min_width}"
            raise VidgenError(f"tiles of {size} pixels are smaller than a latent cell, {f}x{f}; make them larger")
        self.use_tiling = True
        self.tile_cells = (rows, cols)

    def disable_tiling(self) -> None:
        """Run whole frames."""
        self.use_tiling = False

    def enable_slicing(self) -> None:
        """Run a batch clip by clip."""
        self.use_slicing = True

    def disable_slicing(self) -> None:
        """Run a batch as one."""
        self.use_slicing = False

    def tiles_for(self, rows: int, cols: int) -> Tiles | None:
        """Return how a frame of rows x cols latent cells is cut; None for a frame that runs whole."""
        height, width = self.tile_cells
        if not self.use_tiling or (rows <= height and cols <= width):
            return None
        exact = encoder_halo(self) is not None and decoder_halo(self) is not None
        return (ExactTiles if exact else BlendedTiles)(rows=height, cols=width)
