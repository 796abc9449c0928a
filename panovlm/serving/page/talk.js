// Questions and answers, for eyes and for screen readers.

import { button, made } from "./elements.js";
import { say } from "./texts.js";
import { placeAt } from "./words.js";

export const degrees = (angle) => `${Math.round(angle).toString().replace("-", "−")}°`;

/** Describe a direction: its degrees, and the words for it. */
export const direction = (yaw) => `${degrees(yaw)}, ${say(placeAt(yaw))}`;

/** One question and its answer in the making. */
export class Entry {
  constructor(question, yawShift) {
    Object.assign(this, { question, places: [] });
    this.root = made("article", "entry");
    this.root.setAttribute("aria-busy", "true");  // read out when it is complete
    this.answer = made("p", "answer waiting");
    this.root.append(made("p", "question", question));
    const note = say("Asked with the panorama rotated by {shift}.", { shift: degrees(yawShift) });
    if (yawShift) this.root.append(made("p", "note", note));
    this.root.append(this.answer);
  }

  add(piece) {
    this.answer.append(piece);
  }

  /** Complete it: `places` are the directions it is about, each with a yaw, a text, a note and what a click does. */
  end(places) {
    this.close();
    this.places = places;
    if (!this.answer.textContent) this.answer.textContent = say("(no text)");
    if (places.length) this.root.append(this.placesOf(places));
  }

  placesOf(places) {
    const list = made("ul", "places");
    for (const { yaw, text, note, onClick } of places) {
      const item = made("li", ""), chip = button(direction(yaw), onClick, "chip");
      chip.setAttribute("aria-label", say("Look there: {direction}", { direction: direction(yaw) }));
      item.append(chip, made("span", "what", text), made("span", "note", note));
      list.append(item);
    }
    return list;
  }

  /** Return it as lines of a list. */
  get lines() {
    const places = this.places.map(({ yaw, pitch, text }) =>
      `  - ${[text, `yaw ${Math.round(yaw)}°`, `pitch ${Math.round(pitch)}°`].filter(Boolean).join(", ")}`);
    return [`- ${this.question}`, `  ${this.answer.textContent.replaceAll("\n", "\n  ")}`, ...places];
  }

  /** Write a remark below the answer, in place of an earlier one. */
  setExtra(text) {
    this.extra ??= this.root.appendChild(made("p", "note extra"));
    this.extra.textContent = text;
  }

  fail(message) {
    this.close();
    this.root.append(made("p", "error", message));
  }

  close() {
    this.answer.classList.remove("waiting");
    this.root.setAttribute("aria-busy", "false");
  }
}

/** Copy entries as a list; select them in `root` where the browser lets no page copy. Returns what was done. */
export async function copy(entries, root) {
  try {
    await navigator.clipboard.writeText(entries.flatMap((entry) => entry.lines).join("\n") + "\n");
    return say("Copied.");
  } catch {  // no secure connection, or not allowed
    getSelection().selectAllChildren(root);
    return say("Selected: copy with Ctrl+C.");
  }
}
