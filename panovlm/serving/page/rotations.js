// Does an answer stay true when the panorama is turned? The same question is asked about the turned
// panorama, and the direction it gets is turned back.

import { wrap } from "./sphere.js";
import { seenTurned } from "./words.js";
import { degrees } from "./talk.js";

const SAME_DEG = 45;  // words name eighths: two that are right about one thing lie less than one apart

const NAMES_DIRECTION = /\b(front|back|behind|left|right)\b/i;

/** What an answer says to be in a direction: "left to back: red cone". */
const thingIn = (text) => (text.split(": ")[1] ?? "").trim().toLowerCase();

/** Compare an answer with the first: whether they agree (null: who knows), and in words how. */
export function compare(first, again) {
  const instead = `“${again.text.trim()}” instead`;
  if (first.yaw !== null && again.yaw !== null) {
    const apart = Math.abs(wrap(again.yaw - first.yaw));
    if (thingIn(first.text) !== thingIn(again.text)) return { agrees: false, how: instead };
    const how = apart < 0.5 ? "the same direction, turned back" : `${degrees(apart)} apart, turned back`;
    return { agrees: apart < SAME_DEG, how };
  }
  const [one, other] = [first.text, again.text].map((text) => text.trim().toLowerCase());
  if (one === other) return { agrees: true, how: "the same words" };
  const isOpen = first.yaw === null && again.yaw === null && NAMES_DIRECTION.test(one) && NAMES_DIRECTION.test(other);
  return isOpen ? { agrees: null, how: "several directions cannot be compared" } : { agrees: false, how: instead };
}

const MARKS = new Map([[true, "✓"], [false, "≠"], [null, "?"]]);
const SAID = new Map([[true, "agrees"], [false, "differs"], [null, "open"]]);

export class Turns {
  /** `parts` are elements: slider, output, list, verdict, every (a button). `ask(question, turned)` gives
      an answer (text, and yaw in the panorama's own frame or null) or null; `onTurn` hears the turn. */
  constructor(parts, ask, onTurn) {
    Object.assign(this, { parts, ask, onTurn });
    this.stride = null; this.first = null; this.isAsking = false;
    parts.slider.addEventListener("input", () => this.move());
    parts.slider.addEventListener("change", () => this.askAgain());
    parts.every.addEventListener("click", () => this.askEvery());
  }

  get turned() {
    return wrap(this.parts.slider.valueAsNumber * (this.stride ?? 0));
  }

  /** Offer turns by whole strides of a ring of views; none where the model has no such ring. */
  offer(stride) {
    this.stride = stride;
    this.count = stride ? Math.round(360 / stride) : 1;
    this.parts.slider.max = this.count - 1;
    this.reset();
  }

  /** Begin again: at no turn, with nothing asked. */
  reset() {
    this.parts.slider.value = 0;
    this.begin(null);
    this.move();
  }

  /** Take an answer to compare others with. */
  begin(first) {
    this.first = first;
    this.results = new Map();
    if (first) this.results.set(first.turned, { agrees: true, how: `“${first.text.trim()}”` });
    this.parts.every.disabled = !first || !this.stride;
    this.list();
  }

  move() {
    const said = `turned right by ${degrees((this.turned + 360) % 360)}`;
    this.parts.output.textContent = degrees((this.turned + 360) % 360);
    this.parts.slider.setAttribute("aria-valuetext", said);
    this.onTurn(this.turned);
    this.list();
  }

  /** Ask the first question about the panorama as it is turned now. */
  async askAgain() {
    if (!this.first || this.isAsking) return;
    this.isAsking = true;
    for (let turned = null; turned !== this.turned && this.first; ) {  // it may be moved meanwhile
      turned = this.turned;
      if (!this.results.has(turned)) await this.askAt(turned);
    }
    this.isAsking = false;
  }

  async askEvery() {
    for (let place = 0; place < this.count && this.first; place++) {
      const before = this.first;
      this.parts.slider.value = place;
      this.move();
      await this.askAgain();
      if (before !== this.first || !this.results.has(this.turned)) return;
    }
  }

  async askAt(turned) {
    const first = this.first, question = seenTurned(first.question, turned - first.turned);
    if (question === null) {
      this.parts.verdict.textContent = `Eight words are too few to say the question turned by ${degrees(turned)}.`;
      return;
    }
    const again = await this.ask(question, turned);
    if (!again || first !== this.first) return;
    this.results.set(turned, compare(first, again));
    this.list();
  }

  list() {
    const { list, verdict } = this.parts, results = [...this.results.values()].filter((each) => each.agrees !== null);
    list.replaceChildren(...Array.from({ length: this.stride ? this.count : 0 }, (_, place) => this.cell(place)));
    const agreeing = results.filter((each) => each.agrees).length;
    verdict.textContent = results.length > 1 ? `${agreeing} of ${results.length} turns agree` : "";
  }

  cell(place) {
    const turned = wrap(place * this.stride), result = this.results.get(turned), cell = document.createElement("li");
    cell.className = String(result?.agrees ?? "open");
    if (turned === this.turned) cell.setAttribute("aria-current", "true");
    cell.textContent = result ? MARKS.get(result.agrees) : "·";
    const how = result ? `${SAID.get(result.agrees)}: ${result.how}` : "not asked";
    cell.title = `${degrees(place * this.stride)}: ${how}`;
    const said = document.createElement("span");
    said.className = "unseen";
    said.textContent = ` ${cell.title}`;
    cell.append(said);
    return cell;
  }
}
