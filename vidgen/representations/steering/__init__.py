from vidgen.deprecation import renamed_attributes
from vidgen.representations.steering.directions import Direction, direction_between, fit_direction
from vidgen.representations.steering.steer import Steered, steer
from vidgen.representations.steering.tcav import ConceptTest, concept_rows

__all__ = ["ConceptTest", "Direction", "Steered", "concept_rows", "direction_between", "fit_direction", "steer"]
__getattr__ = renamed_attributes(__name__, {"find_direction": "fit_direction"})
