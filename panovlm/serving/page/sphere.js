// Angles, rays and outlines on the sphere. Yaw 0 is the picture's centre column, positive to the right;
// pitch is positive up; rays are x right, y up, z forward: the convention of panovlm/geometry/sphere.py.
// All angles are degrees.

const RAD = Math.PI / 180;
const SIDES = [[-1, 1, 2, 0], [1, 1, 0, -2], [1, -1, -2, 0], [-1, -1, 0, 2]];  // where each starts, and how far it goes
const SHARES = Array.from({ length: 24 }, (_, step) => step / 24);
const NEAR = 0.02;

const tan = (degrees) => Math.tan(degrees * RAD);

/** Return the same yaw in (-180, 180]. */
export const wrap = (yaw) => 180 - ((((180 - yaw) % 360) + 360) % 360);

/** Return how high a camera sees that is `share` as high as wide. */
export const verticalAngle = (fov, share) => (2 * Math.atan(tan(fov / 2) * share)) / RAD;

/** Rotate a point of a plane from its first axis towards its second. */
function rotated([one, other], degrees) {
  const [cos, sin] = [Math.cos(degrees * RAD), Math.sin(degrees * RAD)];
  return [one * cos - other * sin, other * cos + one * sin];
}

/** Rotate a ray of a camera that looks at (yaw, pitch), rolled, into the panorama's frame. */
function fromCamera([x, y, z], { yaw, pitch, roll = 0 }) {
  const [right, up] = rotated([x, y], -roll);
  const [far, high] = rotated([z, up], pitch);
  const [ahead, across] = rotated([far, right], yaw);
  return [across, high, ahead];
}

/** The inverse of `fromCamera`. */
function toCamera([x, y, z], { yaw, pitch, roll = 0 }) {
  const [far, right] = rotated([z, x], -yaw);
  const [ahead, up] = rotated([far, y], -pitch);
  return [...rotated([right, up], roll), ahead];
}

/** Return rays along the border of a field of view, closed, as `Region.outline` of panovlm/geometry/regions.py
    does, at even angles: two of one side lie less than 8° apart. */
export function outline({ width, height, ...look }) {
  const rays = SIDES.flatMap(([x, y, right, up]) => SHARES.map((share) =>
    fromCamera([tan((width / 2) * (x + right * share)), tan((height / 2) * (y + up * share)), 1], look)));
  return [...rays, rays[0]];
}

/** Whether a direction lies inside a field of view. */
export function sees({ width, height, ...look }, direction) {
  const [x, y, z] = toCamera(fromCamera([0, 0, 1], direction), look);
  const inside = (place, angle) => Math.abs(place) <= z * tan(angle / 2) + 1e-9;
  return z > 0 && inside(x, width) && inside(y, height);
}

/** Write an outline as an SVG path on the chart (yaw right, pitch up), drawn whole across the seam. */
export function chartPath(rays) {
  let yaw = Math.atan2(rays[0][0], rays[0][2]) / RAD;
  const chart = rays.map(([x, y, z]) => {
    yaw += wrap(Math.atan2(x, z) / RAD - yaw);  // continues past the seam instead of jumping back
    return [yaw, -Math.atan2(y, Math.hypot(x, z)) / RAD];
  });
  const [[start], [end]] = [chart[0], chart.at(-1)];
  if (Math.abs(end - start) > 180) {  // it holds a pole: close it along the picture's upper or lower edge
    const edge = chart.reduce((sum, [, down]) => sum + down, 0) < 0 ? -90 : 90;
    chart.push([end, edge], [start, edge]);
  }
  const draw = (shift) => "M" + chart.map(([x, y]) => `${(x + shift).toFixed(2)} ${y.toFixed(2)}`).join("L") + "Z";
  return [-360, 0, 360].map(draw).join("");
}

/** Write an outline as an SVG path as a camera sees it, without the points behind the camera. One unit is half
    the picture's width at the field of view `fov`. */
export function cameraPath(rays, look) {
  const reach = tan(look.fov / 2), seen = rays.map((ray) => toCamera(ray, look));
  let pen = "M";
  const path = seen.map(([x, y, z]) => {
    const piece = z < NEAR ? "" : `${pen}${(x / z / reach).toFixed(4)} ${(-y / z / reach).toFixed(4)}`;
    pen = piece ? "L" : "M";
    return piece;
  });
  return path.join("") + (path.every(Boolean) ? "Z" : "");
}
