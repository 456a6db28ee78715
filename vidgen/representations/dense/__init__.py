from vidgen.representations.dense.affinity import Affinity, propagate
from vidgen.representations.dense.rows import TASKS, USUAL, dense_rows
from vidgen.representations.dense.segmenting import SEGMENTED
from vidgen.representations.dense.slots import SlotSettings

__all__ = ["SEGMENTED", "TASKS", "USUAL", "Affinity", "SlotSettings", "dense_rows", "propagate"]
