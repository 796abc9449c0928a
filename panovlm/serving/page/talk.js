// What was asked and answered, for eyes and for screen readers. Words are never markup.

import { wrap } from "./sphere.js";
import { placeAt } from "./words.js";

function made(tag, kind, text = "") {
  const element = document.createElement(tag);
  element.className = kind;
  element.textContent = text;
  return element;
}

export const degrees = (angle) => `${Math.round(angle).toString().replace("-", "−")}°`;

/** Say a direction: its degrees, and the words for it. */
export const direction = (yaw) => `${degrees(yaw)}, ${placeAt(yaw)}`;

/** One question and its answer in the making. */
export class Entry {
  constructor(list, question, turned) {
    this.list = list;
    this.root = made("article", "entry");
    this.root.setAttribute("aria-busy", "true");  // read out when it is whole
    this.answer = made("p", "answer waiting");
    this.root.append(made("p", "question", question));
    if (turned) this.root.append(made("p", "note", `Asked with the panorama turned by ${degrees(turned)}.`));
    this.root.append(this.answer);
    list.append(this.root);
    this.scroll();
  }

  add(piece) {
    this.answer.append(piece);
    this.scroll();
  }

  /** End it: `mark` is what it is about (or null), `views` say which of the model's views see that. */
  end(mark, views, onLook) {
    this.close();
    if (!this.answer.textContent) this.answer.textContent = "(no words)";
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

  /** Say below the answer what is found out about it; again, what was found out instead. */
  tell(text) {
    this.told ??= this.root.appendChild(made("p", "note told"));
    this.told.textContent = text;
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

/** Say what went wrong outside any question. */
export function complain(list, message) {
  list.append(made("p", "error", message));
  list.scrollTop = list.scrollHeight;
}
