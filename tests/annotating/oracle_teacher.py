"""A teacher that knows a scene: the true box of each solid in each view."""

from dataclasses import dataclass, field

import numpy as np

from panovlm.annotating.teachers import Detection, ViewResult
from panovlm.data.annotations import Sighting, Teacher
from panovlm.geometry.boxes import ViewBox
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.regions import Region
from panovlm.geometry.sphere import Floats, Pixels, rays_from_angles
from panovlm.geometry.views import AnyView
from panovlm.scenes.intersections import intersect
from panovlm.scenes.world import Scene, Solid

STEP_DEG = 0.5


def rays_of(solid: Solid, camera_m: float) -> Floats:
    """Rays of the panorama that meet a solid, half a degree apart, [M, 3]."""
    yaws = np.radians(np.arange(-45, 45, STEP_DEG))
    pitches = np.radians(np.arange(-80, 10, STEP_DEG))
    hit = np.isfinite(intersect(rays_from_angles(*np.meshgrid(yaws, pitches)), solid, camera_m)[0])
    rows, columns = np.nonzero(hit)
    return rays_from_angles(yaws[columns] + np.radians(solid.yaw_deg), pitches[rows])


@dataclass(frozen=True)
class OracleTeacher:
    """Returns the true boxes of a scene's solids, by shape; on request a little wrong.

    Attributes:
        scene: The scene.
        error: Largest error of a box's sides, in shares of its width and height.
        missed: Share of the boxes that are overlooked.
        seed: Of the errors.
    """

    scene: Scene
    error: float = 0.0
    missed: float = 0.0
    seed: int = 0
    in_processes: bool = True
    rays: dict[Solid, Floats] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        camera_m = self.scene.camera_height_m
        rays = {solid: rays_of(solid, camera_m) for solid in self.scene.solids}
        object.__setattr__(self, "rays", rays)

    @property
    def description(self) -> Teacher:
        return Teacher(name="oracle", settings={"error": self.error})

    @property
    def truth(self) -> list[tuple[str, Region]]:
        """Each solid's shape and where it is."""
        return [(solid.shape, Region.around(rays)) for solid, rays in self.rays.items()]

    def prepare(self) -> None:
        """Nothing is needed."""

    def annotate(self, views: Pixels, layout: ViewLayout) -> list[ViewResult]:
        rng = np.random.default_rng(self.seed)
        return [ViewResult(tuple(self._boxes(v, len(views[0]), rng))) for v in layout.views]

    def _boxes(self, view: AnyView, size: int, rng: np.random.Generator) -> list[Detection]:
        found = []
        for solid, rays in self.rays.items():
            seen = rays[view.sees(rays)]
            if len(seen) < 5 or rng.random() < self.missed:
                continue
            places = np.stack(view.places_of(seen)) * size
            low, high = places.min(axis=1), places.max(axis=1)
            off = rng.uniform(-self.error, self.error, (2, 2)) * (high - low)
            low, high = (np.clip(ends, 0, size) for ends in (low + off[0], high + off[1]))
            box = ViewBox(*map(float, (*low, *(high - low))))
            score = float(rng.uniform(0.5, 1)) if self.error else 1.0
            found.append(Detection(solid.shape, box, score))
        return found


def matched(sightings: tuple[Sighting, ...], truth: list[tuple[str, Region]]) -> int:
    """Count the true things that have a sighting of their own at the same place."""
    left = list(sightings)
    count = 0
    for label, region in truth:
        fitting = [each for each in left if each.label == label]
        best = max(fitting, key=lambda each: each.region.iou(region), default=None)
        if best is not None and best.region.iou(region) >= 0.5:
            left.remove(best)
            count += 1
    return count
