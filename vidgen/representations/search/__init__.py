from vidgen.representations.search.clips import list_neighbours, path_of, show_clip
from vidgen.representations.search.index import StoredIndex, grow_index

__all__ = ["StoredIndex", "grow_index", "list_neighbours", "path_of", "show_clip"]
