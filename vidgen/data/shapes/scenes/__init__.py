from vidgen.data.shapes.scenes.counterfactuals import COUNTERFACTUALS, Counterfactual, CounterfactualWorld
from vidgen.data.shapes.scenes.scene_world import SCENES, SceneClip, SceneWorld
from vidgen.data.shapes.scenes.violations import VIOLATIONS, Quartet, draw_quartet

__all__ = [
    "COUNTERFACTUALS",
    "Counterfactual",
    "CounterfactualWorld",
    "SCENES",
    "VIOLATIONS",
    "Quartet",
    "SceneClip",
    "SceneWorld",
    "draw_quartet",
]
