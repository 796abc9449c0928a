// The address bar holds the view and the question, so that others can open them.

/** Read the address: a question (q) and the number of an example, "" where it has none, and a look or null. */
export function readLink() {
  const { q = "", example = "", ...look } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const [yaw, pitch, fov] = [look.yaw, look.pitch, look.fov].map(Number.parseFloat);
  const isLook = Number.isFinite(yaw);
  return { q, example: /^\d+$/.test(example) ? example : "", look: isLook ? { yaw, pitch: pitch || 0, fov: fov || 90 } : null };
}

/** Write it; nothing is loaded anew, and Back leaves the page. */
export function writeLink({ yaw, pitch, fov }, q, example) {
  const numbers = { yaw: yaw.toFixed(0), pitch: pitch.toFixed(0), fov: fov.toFixed(0) };
  const given = new URLSearchParams({ ...numbers, ...(q && { q }), ...(example && { example }) });
  history.replaceState(null, "", `#${given}`);
}
