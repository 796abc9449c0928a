// The panoramas that are open: one is shown, the others are a click away, here or where they were linked.

import { pictureButton } from "./elements.js";
import { say } from "./texts.js";

export class Tour {
  /** `parts` are elements: list, linking (around it), target (a select). `onChoose` gets a panorama to show,
      `onLink` one to link to where the visitor looks. */
  constructor(parts, onChoose, onLink) {
    Object.assign(this, { parts, onChoose });
    this.panoramas = []; this.shown = null;
    parts.target.addEventListener("change", () => {
      onLink(this.panoramas[Number(parts.target.value) - 1]);
      parts.target.value = "";
    });
  }

  /** Add the panorama in a picture: requests hold it as `url` (a promise); `ideas` are questions to try. */
  add({ blob, url, ideas, example = "" }) {
    const picture = URL.createObjectURL(blob), number = this.panoramas.length + 1;
    this.panoramas.push({ number, picture, url, example, ideas, entries: [], marks: [], links: [] });
    return this.panoramas.at(-1);
  }

  show(panorama) {
    this.shown = panorama;
    this.list();
  }

  list() {
    const { list, linking, target } = this.parts, options = [new Option(say("choose"), "")];
    list.hidden = linking.hidden = this.panoramas.length < 2;
    list.replaceChildren(...this.panoramas.map((panorama) => {
      const choice = pictureButton(panorama.picture, nameOf(panorama), () => this.onChoose(panorama));
      if (panorama === this.shown) choice.setAttribute("aria-current", "true");
      else options.push(new Option(nameOf(panorama), panorama.number));
      return choice;
    }));
    target.replaceChildren(...options);
  }
}

export const nameOf = ({ number }) => say("Panorama {number}", { number });
