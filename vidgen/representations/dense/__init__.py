from vidgen.representations.dense.affinity import Affinity, propagate
from vidgen.representations.dense.rows import TASKS, dense_rows
from vidgen.representations.dense.segmenting import SEGMENTED

__all__ = ["SEGMENTED", "TASKS", "Affinity", "dense_rows", "propagate"]
