from vidgen.representations.directions.concepts import ConceptTest, concept_rows
from vidgen.representations.directions.finding import Direction, direction_between, find_direction
from vidgen.representations.directions.steering import Steered, steer

__all__ = ["ConceptTest", "Direction", "Steered", "concept_rows", "direction_between", "find_direction", "steer"]
