from vidgen.representations.probes.registry import MAJORITY, PROBES
from vidgen.representations.probes.rows import probe_rows
from vidgen.representations.probes.selection import Probe, ProbeScore, choose_and_score
from vidgen.representations.probes.task import ProbeTask, make_task, task_of

__all__ = [
    "MAJORITY",
    "PROBES",
    "Probe",
    "ProbeScore",
    "ProbeTask",
    "choose_and_score",
    "make_task",
    "probe_rows",
    "task_of",
]
