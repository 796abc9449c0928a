// Does an answer hold when the panorama is rotated? The same question is asked about the rotated
// panorama, and the direction of its answer is rotated back.

import { made } from "./elements.js";
import { wrap } from "./sphere.js";
import { degrees } from "./talk.js";
import { say } from "./texts.js";
import { rotatePlaces } from "./words.js";

const SAME_DEG = 45;  // words name eighths: two correct answers about one object differ by less than one

const NAMES_DIRECTION = /\b(front|back|behind|left|right)\b/i;

/** The object that an answer names in a direction: "left to back: red cone". */
const objectNamed = (text) => (text.split(": ")[1] ?? "").trim().toLowerCase();

/** Compare an answer with the first: whether they agree (null: unknown), and how in words. */
export function compare(first, again) {
  const instead = say("“{answer}” instead", { answer: again.text.trim() });
  if (first.yaw !== null && again.yaw !== null) {
    const apart = Math.abs(wrap(again.yaw - first.yaw));
    if (objectNamed(first.text) !== objectNamed(again.text)) return { agrees: false, how: instead };
    const how = apart < 0.5 ? "the same direction, rotated back" : "{angle} apart, rotated back";
    return { agrees: apart < SAME_DEG, how: say(how, { angle: degrees(apart) }) };
  }
  const [one, other] = [first.text, again.text].map((text) => text.trim().toLowerCase());
  if (one === other) return { agrees: true, how: say("the same text") };
  const isOpen = first.yaw === null && again.yaw === null && NAMES_DIRECTION.test(one) && NAMES_DIRECTION.test(other);
  return isOpen ? { agrees: null, how: say("several directions cannot be compared") } : { agrees: false, how: instead };
}

const STATES = new Map([[true, ["✓", "agrees"]], [false, ["≠", "differs"]], [null, ["?", "unknown"]]]);

export class Rotations {
  /** `parts` are elements: slider, output, list, verdict, all (a button). `ask(question, yawShift)` returns
      an answer (text, and yaw in the panorama's own frame or null) or null; `onRotate` gets the yaw shift. */
  constructor(parts, ask, onRotate) {
    Object.assign(this, { parts, ask, onRotate });
    this.stride = null; this.first = null; this.isAsking = false;
    parts.slider.addEventListener("input", () => this.move());
    parts.slider.addEventListener("change", () => this.askAgain());
    parts.all.addEventListener("click", () => this.askAll());
  }

  get yawShift() {
    return wrap(this.parts.slider.valueAsNumber * (this.stride ?? 0));
  }

  /** Offer rotations by whole strides of a ring of views; none where the model has no ring. */
  offer(stride) {
    this.stride = stride;
    this.count = stride ? Math.round(360 / stride) : 1;
    this.parts.slider.max = this.count - 1;
    this.reset();
  }

  /** Start over: no rotation, no question. */
  reset() {
    this.parts.slider.value = 0;
    this.begin(null);
    this.move();
  }

  /** Set the answer to compare others with. */
  begin(first) {
    this.first = first;
    this.results = new Map();
    if (first) this.results.set(first.yawShift, { agrees: true, how: `“${first.text.trim()}”` });
    this.parts.all.disabled = !first || !this.stride;
    this.list();
  }

  move() {
    const shift = degrees((this.yawShift + 360) % 360);
    this.parts.output.textContent = shift;
    this.parts.slider.setAttribute("aria-valuetext", say("rotated by {shift}", { shift }));
    this.onRotate(this.yawShift);
    this.list();
  }

  /** Ask the first question about the panorama as it is rotated now. */
  async askAgain() {
    if (!this.first || this.isAsking) return;
    this.isAsking = true;
    for (let yawShift = null; yawShift !== this.yawShift && this.first; ) {  // it may be moved meanwhile
      yawShift = this.yawShift;
      if (!this.results.has(yawShift)) await this.askAt(yawShift);
    }
    this.isAsking = false;
  }

  async askAll() {
    for (let place = 0; place < this.count && this.first; place++) {
      const before = this.first;
      this.parts.slider.value = place;
      this.move();
      await this.askAgain();
      if (before !== this.first || !this.results.has(this.yawShift)) return;
    }
  }

  async askAt(yawShift) {
    const first = this.first, question = rotatePlaces(first.question, yawShift - first.yawShift);
    if (question === null) {
      const text = "The words for directions are 45° apart: this question cannot be rotated by {shift}.";
      this.parts.verdict.textContent = say(text, { shift: degrees(yawShift) });
      return;
    }
    const again = await this.ask(question, yawShift);
    if (!again || first !== this.first) return;
    this.results.set(yawShift, compare(first, again));
    this.list();
  }

  list() {
    const { list, verdict } = this.parts, results = [...this.results.values()].filter((each) => each.agrees !== null);
    list.replaceChildren(...Array.from({ length: this.stride ? this.count : 0 }, (_, place) => this.cell(place)));
    const agreeing = results.filter((each) => each.agrees).length;
    const text = "{agreeing} of {count} rotations agree";
    verdict.textContent = results.length > 1 ? say(text, { agreeing, count: results.length }) : "";
  }

  cell(place) {
    const yawShift = wrap(place * this.stride), result = this.results.get(yawShift);
    const [mark, word] = STATES.get(result?.agrees) ?? ["·", "not asked"];
    const cell = made("li", result ? String(result.agrees) : "", mark);
    cell.title = [`${degrees(place * this.stride)}: ${say(word)}`, result?.how].filter(Boolean).join(": ");
    cell.append(made("span", "unseen", ` ${cell.title}`));
    if (yawShift === this.yawShift) cell.setAttribute("aria-current", "true");
    return cell;
  }
}
