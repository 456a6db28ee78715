from vidgen.deprecation import renamed_attributes
from vidgen.representations.search.clips import list_neighbors, path_of, show_clip
from vidgen.representations.search.index import StoredIndex, grow_index

__all__ = ["StoredIndex", "grow_index", "list_neighbors", "path_of", "show_clip"]
__getattr__ = renamed_attributes(__name__, {"list_neighbours": "list_neighbors"})
