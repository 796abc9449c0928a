// The whole panorama, small: the viewer's frame, the answer's direction, and the model's views.

import { path, pathWithHalo } from "./elements.js";
import { chartPath, outline, sees } from "./sphere.js";
import { say } from "./texts.js";
import { placeAt } from "./words.js";

const FULL = 0.8;  // opacity of a view with the whole share of an answer
const WHOLE = "M-180-90H180V90H-180Z";

export class Strip {
  /** Shows pictures in `whole` and draws in the groups of `chart` (an SVG of -180..180 by -90..90) inside
      `root`; `onLook` gets where to look, and whether at once, when that is clicked. */
  constructor(root, whole, chart, onLook) {
    Object.assign(this, { root, whole, onLook });
    [this.views, this.marks, this.frame] = chart.children;
    root.addEventListener("pointerdown", (event) => {
      root.setPointerCapture(event.pointerId);
      this.point(event);
    });
    root.addEventListener("pointermove", (event) => root.hasPointerCapture(event.pointerId) && this.point(event));
  }

  point(event) {
    const box = this.root.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width, down = (event.clientY - box.top) / box.height;
    this.onLook((across - 0.5) * 360, (0.5 - down) * 180, event.type === "pointermove");
  }

  /** Show the panorama at a URL. */
  show(picture) {
    this.whole.style.backgroundImage = `url("${picture}")`;
  }

  /** Show the panorama as it looks after its camera has turned right. */
  rotate(degrees) {
    this.whole.style.setProperty("--yaw-shift", degrees);
  }

  /** Draw the viewer's frame. */
  look(frame) {
    this.frame.replaceChildren(...pathWithHalo(chartPath(outline(frame)), "now"));
    this.root.setAttribute("aria-valuenow", Math.round(frame.yaw));
    this.root.setAttribute("aria-valuetext", `${Math.round(frame.yaw)}°, ${say(placeAt(frame.yaw))}`);
  }

  mark(marks) {
    this.marks.replaceChildren(...marks.flatMap((mark) => pathWithHalo(chartPath(outline(mark)), mark.kind)));
  }

  /** Draw what the model's views see; those that see `about` (a direction, or null) stand out,
      and each is filled by its share of an answer (or null). */
  showViews(views, about, shares) {
    this.views.replaceChildren(...views.map((view, place) => {
      const kind = about && seen(view, about) ? "seeing" : "view";
      const drawn = path(view.is_global ? WHOLE : chartPath(outline(region(view))), shares ? `${kind} carrying` : kind);
      if (shares) drawn.setAttribute("fill-opacity", (FULL * shares[place]).toFixed(3));
      return drawn;
    }));
  }
}

function region({ yaw_deg: yaw, pitch_deg: pitch, roll_deg: roll, fov_deg: fov }) {
  return { yaw, pitch, roll, width: fov, height: fov };
}

/** Whether a view of the model's sees a direction. */
export const seen = (view, about) => view.is_global || sees(region(view), about);
