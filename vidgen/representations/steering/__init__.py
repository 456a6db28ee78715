from vidgen.representations.steering.directions import Direction, direction_between, find_direction
from vidgen.representations.steering.steer import Steered, steer
from vidgen.representations.steering.tcav import ConceptTest, concept_rows

__all__ = ["ConceptTest", "Direction", "Steered", "concept_rows", "direction_between", "find_direction", "steer"]
