// Directions in the words of questions, which are the scenes' (panovlm/scenes/language.py, PLACES).

export const PLACES = [
  "in front of me",
  "to my front-right",
  "to my right",
  "to my back-right",
  "behind me",
  "to my back-left",
  "to my left",
  "to my front-left",
];
const ANY = new RegExp(PLACES.join("|"), "gi");

/** Return the words for a yaw. */
export const placeAt = (yaw) => PLACES.at(Math.floor(yaw / 45 + 0.5) % 8);

/** Rewrite a text's places for a camera that has turned right; null if that is no multiple of 45°. */
export function rotatePlaces(text, degrees) {
  if (!text.match(ANY)) return text;
  if (degrees % 45) return null;
  return text.replace(ANY, (place) => placeAt(45 * PLACES.indexOf(place.toLowerCase()) - degrees));
}

/** Make a question one about the direction looked at. */
export function aboutPlace(question, yaw) {
  const words = question.trim(), place = placeAt(yaw);
  if (!words) return `What is ${place}?`;
  if (words.match(ANY)) return words.replace(ANY, place);
  return `${words.replace(/[\s?.!]+$/, "")} ${place}?`;
}
