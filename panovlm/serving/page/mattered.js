// Which views mattered to the last answer: computed on request, after the answer.

import { say } from "./texts.js";

const percent = (share) => Math.round(100 * share);
const inPercent = (share) => `${percent(share)}\u00a0%`;  // never parted by the end of a line

/** Describe which views mattered: by their shares, else two neighbours together, else none. */
export function inWords({ shares, together }, views) {
  if (shares) return inShares(shares, views);
  const none = "No view mattered alone, nor two neighbours together: with them blank, the answer stays about as likely or gets likelier.";
  if (!together) return say(none);
  const [one, other] = together.views.map((view) => say(views[view].name));
  const names = say("{one} and {other}", { one, other }), share = inPercent(1 - Math.exp(-together.drop));
  return say("No view mattered alone, but {names} together did: with both blank, this answer gets {share} less likely. " +
    "That says neither why nor that it is right.", { names, share });
}

function inShares(shares, views) {
  const order = [...shares.keys()].sort((one, other) => shares[other] - shares[one]);
  const named = order.filter((view) => percent(shares[view]));
  const parts = named.map((view) => `${say(views[view].name)}: ${inPercent(shares[view])}`);
  if (parts.length < views.length) parts.push(`${say("others")}: ${inPercent(0)}`);
  return say("Views that mattered: {shares}. Shares of how much less likely this answer gets with one view blank; " +
    "they say neither why nor that it is right.", { shares: parts.join(", ") });
}

/** The share to show in each view: two that mattered together have half each. */
function weights({ shares, together }, count) {
  if (shares || !together) return shares;
  return Array.from({ length: count }, (_, view) => (together.views.includes(view) ? 0.5 : 0));
}

export class Mattered {
  /** `box` is a checkbox; `onChange` is called when something else is to be drawn. */
  constructor(box, client, onChange) {
    Object.assign(this, { box, client, onChange });
    this.views = []; this.last = null; this.finding = null;
    box.addEventListener("change", () => this.show());
  }

  /** Set the last answer, with its question, url, yaw shift and entry; null for none. */
  set(last) {
    this.stop();
    this.last = last;
    this.show();
  }

  /** The shares to draw over a panorama with a yaw shift; null for none. */
  sharesAt(yawShift) {
    return this.box.checked && this.last?.yawShift === yawShift ? this.last.shares ?? null : null;
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
    this.last.entry.setExtra("");
  }

  async find(last) {
    const finding = (this.finding = new AbortController());
    last.entry.setExtra(say("Blanking one view after the other, and neighbours together …"));
    try {
      const found = await this.client.viewsMattered({ ...last, signal: finding.signal });
      last.shares = weights(found, this.views.length);
      last.entry.setExtra(inWords(found, this.views));
    } catch (error) {
      if (finding.signal.aborted) return;
      last.entry.setExtra(say("Which views mattered cannot be computed: {message}", error));
    }
    this.finding = null;
    this.onChange();
  }
}
