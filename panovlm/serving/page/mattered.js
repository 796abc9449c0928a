// Which views mattered to the last answer: found on request, after the answer.

const percent = (share) => Math.round(100 * share);
const inPercent = (share) => `${percent(share)}\u00a0%`;  // never parted by the end of a line

/** Say in words what carried an answer: the shares of its views, else two neighbours together, else nothing. */
export function inWords({ shares, together }, views) {
  if (shares) return inShares(shares, views);
  if (!together) return "No view carried this alone, nor two neighbours together: with them blank, it stays about as likely or gets likelier.";
  const names = together.views.map((view) => views[view].name).join(" and ");
  return `No view carried this alone, but ${names} together did: with both blank, these words get ` +
    `${inPercent(1 - Math.exp(-together.drop))} less likely. That says neither why nor that they are right.`;
}

function inShares(shares, views) {
  const order = [...shares.keys()].sort((one, other) => shares[other] - shares[one]);
  const said = order.filter((view) => percent(shares[view])).map((view) => `${views[view].name}: ${inPercent(shares[view])}`);
  if (said.length < views.length) said.push(`others: ${inPercent(0)}`);
  return `Views that mattered: ${said.join(", ")}. Shares of how much less likely these words get with one view blank; ` +
    "they say neither why nor that the words are right.";
}

/** How much of an answer to show in each view: two that carried it together have half of it each. */
function weights({ shares, together }, count) {
  if (shares || !together) return shares;
  return Array.from({ length: count }, (_, view) => (together.views.includes(view) ? 0.5 : 0));
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
    last.entry.tell("Blanking one view after the other, and neighbours together …");
    try {
      const found = await this.client.viewsMattered({ ...last, signal: finding.signal });
      last.shares = weights(found, this.views.length);
      last.entry.tell(inWords(found, this.views));
    } catch (error) {
      if (finding.signal.aborted) return;
      last.entry.tell(`Which views mattered cannot be told: ${error.message}`);
    }
    this.finding = null;
    this.onChange();
  }
}
