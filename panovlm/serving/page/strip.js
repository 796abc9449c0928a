// The whole panorama, small: the viewer's frame, the answer's direction, and the model's views.

import { chartPath, outline, sees, wrap } from "./sphere.js";
import { say } from "./texts.js";
import { markPath } from "./viewer.js";
import { placeAt } from "./words.js";

const STEP_DEG = 15;
const FULL = 0.8;  // opacity of a view with the whole share of an answer
const WHOLE = "M-180-90H180V90H-180Z";

export class Strip {
  /** Shows pictures in `whole` and draws in `overlay` (an SVG of -180..180 by -90..90) inside `root`, which
      is clicked and takes arrow keys; `onLook` gets where to look then. */
  constructor(root, whole, overlay, onLook) {
    Object.assign(this, { root, whole, overlay, onLook });
    this.frame = null;
    this.groups = ["views", "marks", "frame"].map((kind) => this.addGroup(kind));
    this.listen();
  }

  addGroup(kind) {
    const group = document.createElementNS("http://www.w3.org/2000/svg", "g");
    group.setAttribute("class", kind);
    this.overlay.append(group);
    return group;
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
    const path = chartPath(outline(frame));
    this.groups[2].replaceChildren(markPath(path, "halo"), markPath(path, "now"));
    this.frame = frame;
    this.root.setAttribute("aria-valuenow", Math.round(frame.yaw));
    this.root.setAttribute("aria-valuetext", `${Math.round(frame.yaw)}°, ${say(placeAt(frame.yaw))}`);
  }

  mark(marks) {
    const paths = marks.map((mark) => [chartPath(outline(mark)), mark.kind]);
    this.groups[1].replaceChildren(...paths.flatMap(([d, kind]) => [markPath(d, `halo ${kind}`), markPath(d, kind)]));
  }

  /** Draw what the model's views see; those that see `about` (a direction, or null) stand out,
      and each is filled by its share of an answer (or null). */
  showViews(views, about, shares) {
    const paths = views.map((view, place) => {
      const kind = about && seen(view, about) ? "seeing" : "view";
      const path = markPath(view.is_global ? WHOLE : chartPath(outline(region(view))), shares ? `${kind} carrying` : kind);
      if (shares) path.setAttribute("fill-opacity", (FULL * shares[place]).toFixed(3));
      return path;
    });
    this.groups[0].replaceChildren(...paths);
  }

  listen() {
    const point = (event) => {
      const box = this.root.getBoundingClientRect();
      const across = (event.clientX - box.left) / box.width, down = (event.clientY - box.top) / box.height;
      this.onLook((across - 0.5) * 360, (0.5 - down) * 180, event.type === "pointermove");
    };
    this.root.addEventListener("pointerdown", (event) => {
      this.root.setPointerCapture(event.pointerId);
      point(event);
    });
    this.root.addEventListener("pointermove", (event) => this.root.hasPointerCapture(event.pointerId) && point(event));
    this.root.addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    if (!this.frame) return;
    const { yaw, pitch } = this.frame;
    const keys = {
      ArrowLeft: [yaw - STEP_DEG, pitch], ArrowRight: [yaw + STEP_DEG, pitch],
      ArrowUp: [yaw, pitch + STEP_DEG], ArrowDown: [yaw, pitch - STEP_DEG], Home: [0, 0],
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    this.onLook(wrap(keys[event.key][0]), keys[event.key][1], true);
  }
}

function region({ yaw_deg: yaw, pitch_deg: pitch, roll_deg: roll, fov_deg: fov }) {
  return { yaw, pitch, roll, width: fov, height: fov };
}

/** Whether a view of the model's sees a direction. */
export const seen = (view, about) => view.is_global || sees(region(view), about);
