// Questions and answers, for eyes and for screen readers. Text is never markup.

import { say } from "./texts.js";
import { placeAt } from "./words.js";

/** Make an element with a class and a text. */
export function made(tag, kind, text = "") {
  const element = document.createElement(tag);
  element.className = kind;
  element.textContent = text;
  return element;
}

/** Make a button. */
export function button(text, onClick, kind = "") {
  const element = made("button", kind, text);
  element.type = "button";
  element.addEventListener("click", onClick);
  return element;
}

export const degrees = (angle) => `${Math.round(angle).toString().replace("-", "−")}°`;

/** Describe a direction: its degrees, and the words for it. */
export const direction = (yaw) => `${degrees(yaw)}, ${say(placeAt(yaw))}`;

/** One question and its answer in the making. */
export class Entry {
  constructor(list, question, yawShift) {
    Object.assign(this, { list, question, places: [] });
    this.root = made("article", "entry");
    this.root.setAttribute("aria-busy", "true");  // read out when it is complete
    this.answer = made("p", "answer waiting");
    this.root.append(made("p", "question", question));
    const note = say("Asked with the panorama rotated by {shift}.", { shift: degrees(yawShift) });
    if (yawShift) this.root.append(made("p", "note", note));
    this.root.append(this.answer);
    list.append(this.root);
    this.scroll();
  }

  add(piece) {
    this.answer.append(piece);
    this.scroll();
  }

  /** Complete it: `places` are the directions it is about, each with a yaw, a text, a note and what a click does. */
  end(places) {
    this.close();
    this.places = places;
    if (!this.answer.textContent) this.answer.textContent = say("(no text)");
    if (places.length) this.root.append(this.placesOf(places));
    this.scroll();
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
    this.scroll();
  }

  fail(message) {
    this.close();
    this.root.append(made("p", "error", message));
    this.scroll();
  }

  close() {
    this.answer.classList.remove("waiting");
    this.root.setAttribute("aria-busy", "false");
  }

  scroll() {
    this.list.scrollTop = this.list.scrollHeight;
  }
}

/** Show an error outside any question. */
export function complain(list, message) {
  list.append(made("p", "error", message));
  list.scrollTop = list.scrollHeight;
}

/** Copy entries as a list; select them where the browser lets no page copy. Returns what was done. */
export async function copy(entries, list) {
  try {
    await navigator.clipboard.writeText(entries.flatMap((entry) => entry.lines).join("\n") + "\n");
    return say("Copied.");
  } catch {  // no secure connection, or not allowed
    getSelection().selectAllChildren(list);
    return say("Selected: copy with Ctrl+C.");
  }
}
