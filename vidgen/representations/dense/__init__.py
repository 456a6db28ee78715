from vidgen.deprecation import renamed_attributes
from vidgen.representations.dense.label_propagation import PropagationSettings, propagate_labels
from vidgen.representations.dense.rows import DEFAULT_TASKS, TASKS, DenseTask, dense_rows
from vidgen.representations.dense.segmentation import CLASS_SETS
from vidgen.representations.dense.slots import SlotSettings

__all__ = ["CLASS_SETS", "DEFAULT_TASKS", "TASKS", "DenseTask", "PropagationSettings", "SlotSettings", "dense_rows"]
__all__ += ["propagate_labels"]

RENAMED = {"Affinity": "PropagationSettings", "propagate": "propagate_labels", "SEGMENTED": "CLASS_SETS"}
__getattr__ = renamed_attributes(__name__, RENAMED | {"USUAL": "DEFAULT_TASKS"})
