// The panoramas that are open: one is shown, the others are a click away, here or where they were linked.

import { say } from "./texts.js";
import { button } from "./talk.js";

export class Tour {
  /** `parts` are elements: list, linking (around it), target (a select). `onChoose` gets a panorama to show,
      `onLink` one to link to where the visitor looks. */
  constructor(parts, onChoose, onLink) {
    Object.assign(this, { parts, onChoose });
    this.panoramas = []; this.shown = null;
    parts.target.addEventListener("change", () => {
      onLink(this.panoramas[Number(parts.target.value)]);
      parts.target.value = "";
    });
  }

  /** Add the panorama in a picture: requests hold it as `url` (a promise); `ideas` are questions to try. */
  add(blob, { url, ideas, example = "" }) {
    const picture = URL.createObjectURL(blob), id = String(this.panoramas.length);
    this.panoramas.push({ id, picture, url, example, ideas, entries: [], marks: [], links: [] });
    return this.panoramas.at(-1);
  }

  show(panorama) {
    this.shown = panorama;
    this.list();
  }

  nameOf(panorama) {
    return say("Panorama {number}", { number: Number(panorama.id) + 1 });
  }

  list() {
    const { list, linking, target } = this.parts, isTour = this.panoramas.length > 1;
    list.hidden = linking.hidden = !isTour;
    list.replaceChildren(...this.panoramas.map((panorama) => this.choice(panorama)));
    const others = this.panoramas.filter((panorama) => panorama !== this.shown);
    target.replaceChildren(new Option(say("choose"), ""), ...others.map((each) => new Option(this.nameOf(each), each.id)));
  }

  choice(panorama) {
    const choice = button("", () => this.onChoose(panorama)), picture = new Image();
    [picture.src, picture.alt, picture.loading] = [panorama.picture, this.nameOf(panorama), "lazy"];
    if (panorama === this.shown) choice.setAttribute("aria-current", "true");
    choice.append(picture);
    return choice;
  }
}
