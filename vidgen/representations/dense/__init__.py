from vidgen.representations.dense.label_propagation import Affinity, propagate
from vidgen.representations.dense.rows import TASKS, USUAL, dense_rows
from vidgen.representations.dense.segmentation import SEGMENTED
from vidgen.representations.dense.slots import SlotSettings

__all__ = ["SEGMENTED", "TASKS", "USUAL", "Affinity", "SlotSettings", "dense_rows", "propagate"]
