// Angles, rays and outlines on the sphere. Yaw 0 is the picture's centre column, positive to the right;
// pitch is positive up; rays are x right, y up, z forward: the convention of panovlm/geometry/sphere.py.
// All angles are degrees.

const RAD = Math.PI / 180;
const POINTS_PER_SIDE = 24;

/** Return the same yaw in (-180, 180]. */
export const wrap = (yaw) => 180 - ((((180 - yaw) % 360) + 360) % 360);

/** Return how high a camera sees that is `share` as high as wide. */
export const verticalAngle = (fov, share) => (2 * Math.atan(Math.tan((fov / 2) * RAD) * share)) / RAD;

/** Rotate a ray of a camera that looks at (yaw, pitch), rolled, into the panorama's frame. */
export function fromCamera([x, y, z], { yaw, pitch, roll = 0 }) {
  const [cr, sr, cp, sp] = [Math.cos(roll * RAD), Math.sin(roll * RAD), Math.cos(pitch * RAD), Math.sin(pitch * RAD)];
  const [cy, sy] = [Math.cos(yaw * RAD), Math.sin(yaw * RAD)];
  const [right, up] = [x * cr + y * sr, y * cr - x * sr];
  const [high, far] = [up * cp + z * sp, z * cp - up * sp];
  return [right * cy + far * sy, high, far * cy - right * sy];
}

/** The inverse of `fromCamera` for an upright camera. */
export function toCamera([x, y, z], { yaw, pitch }) {
  const [cp, sp] = [Math.cos(pitch * RAD), Math.sin(pitch * RAD)];
  const [cy, sy] = [Math.cos(yaw * RAD), Math.sin(yaw * RAD)];
  const [right, far] = [x * cy - z * sy, x * sy + z * cy];
  return [right, y * cp - far * sp, far * cp + y * sp];
}

export function anglesOf([x, y, z]) {
  return { yaw: Math.atan2(x, z) / RAD, pitch: Math.atan2(y, Math.hypot(x, z)) / RAD };
}

export const rayOf = (yaw, pitch) => fromCamera([0, 0, 1], { yaw, pitch });

/** Return rays along the border of a field of view, closed: `Region.outline` of panovlm/geometry/regions.py. */
export function outline({ width, height, ...look }) {
  const right = Math.tan((width / 2) * RAD), up = Math.tan((height / 2) * RAD);
  const corners = [[-right, up], [right, up], [right, -up], [-right, -up], [-right, up]];
  const rays = [];
  for (let side = 0; side < 4; side++) {
    const [[x0, y0], [x1, y1]] = [corners[side], corners[side + 1]];
    for (let step = 0; step < POINTS_PER_SIDE; step++) {
      const share = step / POINTS_PER_SIDE;
      rays.push(fromCamera([x0 + (x1 - x0) * share, y0 + (y1 - y0) * share, 1], look));
    }
  }
  return [...rays, rays[0]];
}

/** Whether a direction lies inside a field of view. */
export function sees({ width, height, roll = 0, ...look }, { yaw, pitch }) {
  const [x, y, z] = toCamera(rayOf(yaw, pitch), look);
  const [cr, sr] = [Math.cos(roll * RAD), Math.sin(roll * RAD)];
  const inside = (place, angle) => Math.abs(place) <= z * Math.tan((angle / 2) * RAD) + 1e-9;
  return z > 0 && inside(x * cr - y * sr, width) && inside(y * cr + x * sr, height);
}

/** Write an outline as an SVG path on the chart (yaw right, pitch up), drawn whole across the seam. */
export function chartPath(rays) {
  const points = rays.map(anglesOf);
  let yaw = points[0].yaw;
  const chart = points.map((point) => {
    yaw += wrap(point.yaw - yaw);  // continues past the seam instead of jumping back
    return [yaw, -point.pitch];
  });
  const round = chart.at(-1)[0] - chart[0][0];
  if (Math.abs(round) > 180) {  // it holds a pole: close it along the picture's upper or lower edge
    const edge = points.reduce((sum, point) => sum + point.pitch, 0) > 0 ? -90 : 90;
    chart.push([chart.at(-1)[0], edge], [chart[0][0], edge]);
  }
  const draw = (shift) => "M" + chart.map(([x, y]) => `${(x + shift).toFixed(2)} ${y.toFixed(2)}`).join("L") + "Z";
  return [-360, 0, 360].map(draw).join("");
}

const NEAR = 0.02;

/** Write an outline as an SVG path as a camera sees it; what lies behind the camera is cut off.
    One unit is half the picture's width at the field of view `fov`. */
export function cameraPath(rays, look) {
  const reach = Math.tan((look.fov / 2) * RAD);
  const seen = rays.map((ray) => toCamera(ray, look));
  const place = ([x, y, z]) => `${(x / z / reach).toFixed(4)} ${(-y / z / reach).toFixed(4)}`;
  let path = "", isDown = false;
  for (let i = 1; i < seen.length; i++) {
    const [from, to] = cut(seen[i - 1], seen[i]);
    if (from && !isDown) path += `M${place(from)}`;
    if (from) path += `L${place(to)}`;
    isDown = Boolean(from) && to === seen[i];
  }
  const isWhole = path.split("M").length === 2 && seen.every(([, , z]) => z >= NEAR);
  return isWhole ? `${path}Z` : path;
}

/** Return the part of a segment that lies before the camera; nothing if none does. */
function cut(from, to) {
  if (from[2] < NEAR && to[2] < NEAR) return [];
  const crossing = (a, b) => a.map((value, i) => value + ((b[i] - value) * (NEAR - a[2])) / (b[2] - a[2]));
  return [from[2] < NEAR ? crossing(from, to) : from, to[2] < NEAR ? crossing(from, to) : to];
}
