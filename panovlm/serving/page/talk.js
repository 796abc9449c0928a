// Questions and answers, for eyes and for screen readers. Text is never markup.

import { wrap } from "./sphere.js";
import { placeAt } from "./words.js";

function made(tag, kind, text = "") {
  const element = document.createElement(tag);
  element.className = kind;
  element.textContent = text;
  return element;
}

export const degrees = (angle) => `${Math.round(angle).toString().replace("-", "−")}°`;

/** Describe a direction: its degrees, and the words for it. */
export const direction = (yaw) => `${degrees(yaw)}, ${placeAt(yaw)}`;

/** One question and its answer in the making. */
export class Entry {
  constructor(list, question, yawShift) {
    this.list = list;
    this.root = made("article", "entry");
    this.root.setAttribute("aria-busy", "true");  // read out when it is complete
    this.answer = made("p", "answer waiting");
    this.root.append(made("p", "question", question));
    if (yawShift) this.root.append(made("p", "note", `Asked with the panorama rotated by ${degrees(yawShift)}.`));
    this.root.append(this.answer);
    list.append(this.root);
    this.scroll();
  }

  add(piece) {
    this.answer.append(piece);
    this.scroll();
  }

  /** Complete it: `mark` is the direction it is about (or null), `views` names the model's views that see it. */
  end(mark, views, onLook) {
    this.close();
    if (!this.answer.textContent) this.answer.textContent = "(no text)";
    if (mark) this.root.append(this.foot(mark, views, onLook));
    this.scroll();
  }

  foot(mark, views, onLook) {
    const foot = made("p", "foot"), button = made("button", "chip", direction(wrap(mark.yaw)));
    button.type = "button";
    button.setAttribute("aria-label", `Look there: ${button.textContent}`);
    button.addEventListener("click", onLook);
    foot.append(button, made("span", "note", [mark.source, views].filter(Boolean).join("; ")));
    return foot;
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
