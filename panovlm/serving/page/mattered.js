// Which views mattered to the last answer: found on request, after the answer.

import { viewNames } from "./words.js";

const percent = (share) => Math.round(100 * share);

/** Say in words what shares of an answer its views have; null where none mattered alone. */
export function inWords(shares, views) {
  if (!shares) return "No view carried this alone: with any one of them blank, it stays about as likely or gets likelier.";
  const names = viewNames(views), order = [...shares.keys()].sort((one, other) => shares[other] - shares[one]);
  const said = order.filter((view) => percent(shares[view])).map((view) => `${names[view]}: ${percent(shares[view])} %`);
  if (said.length < views.length) said.push("others: 0 %");
  return `Views that mattered: ${said.join(", ")}. Shares of how much less likely these words get with one view blank; ` +
    "they say neither why nor that the words are right.";
}

export class Mattered {
  /** `box` is a checkbox; `onChange` hears that something else is to be drawn. */
  constructor(box, client, onChange) {
    Object.assign(this, { box, client, onChange });
    this.views = []; this.last = null; this.finding = null;
    box.addEventListener("change", () => this.show());
  }

  /** Take the answer last given, with its question, url, turn and entry; null for none. */
  take(last) {
    this.stop();
    this.last = last;
    this.show();
  }

  /** The shares to draw over a panorama turned so far; null for none. */
  sharesAt(turned) {
    return this.box.checked && this.last?.turned === turned ? this.last.shares ?? null : null;
  }

  show() {
    const { box, last, finding } = this;
    if (!box.checked) this.stop();
    else if (last && last.shares === undefined && !finding) this.find(last);
    this.onChange();
  }

  stop() {
    if (!this.finding) return;
    this.finding.abort();
    this.finding = null;
    this.last.entry.tell("");
  }

  async find(last) {
    const finding = (this.finding = new AbortController());
    last.entry.tell("Blanking one view after the other …");
    try {
      last.shares = await this.client.viewsMattered({ ...last, signal: finding.signal });
      last.entry.tell(inWords(last.shares, this.views));
    } catch (error) {
      if (finding.signal.aborted) return;
      last.entry.tell(`Which views mattered cannot be told: ${error.message}`);
    }
    this.finding = null;
    this.onChange();
  }
}
