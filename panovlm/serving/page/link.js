// The address bar holds the view and the question, so that others can open them.

const NUMBERS = ["yaw", "pitch", "fov"];

/** Read the address: yaw, pitch, fov (null where it has none), q and example (""). */
export function readLink() {
  const given = new URLSearchParams(location.hash.slice(1));
  const link = { q: given.get("q") ?? "", example: given.get("example") ?? "" };
  for (const name of NUMBERS) {
    const number = Number.parseFloat(given.get(name));
    link[name] = Number.isFinite(number) ? number : null;
  }
  return link;
}

/** Write it; nothing is loaded anew, and Back leaves the page. */
export function writeLink({ yaw, pitch, fov }, q, example) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries({ yaw, pitch, fov })) given.set(name, value.toFixed(0));
  if (q) given.set("q", q);
  if (example) given.set("example", example);
  history.replaceState(null, "", `#${given}`);
}
