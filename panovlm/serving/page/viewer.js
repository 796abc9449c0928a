// Looks around in panoramas with pannellum, and draws over it. Angles are those of sphere.js, in degrees.

import { cameraPath, outline, verticalAngle, wrap } from "./sphere.js";

const TURN_MS = 800;
const STEP_DEG = 5;
const ZOOM = 1.1;
const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const SETTINGS = {
  autoLoad: true, minHfov: 20, maxHfov: 120, friction: isCalm ? 1 : 0.15, doubleClickZoom: false,
  disableKeyboardCtrl: true,  // its keys move for as long as they are held: no steps for short taps
  ignoreGPanoXMP: true,  // the server levels what is cropped or tilted
};

export class Viewer {
  /** Shows panoramas in `root`, outlines in `overlay` (an SVG). `onLook` gets where it looks, `onShow` is
      called with the first frame of a panorama, `onError` with a message. */
  constructor(root, overlay, { onLook, onShow, onError }) {
    Object.assign(this, { root, overlay, onLook, onShow, onError });
    this.yawShift = 0;  // rotation of the panorama: its own yaw is `yaw` + `yawShift`
    this.marks = []; this.links = []; this.numSpots = 0;
    root.addEventListener("keydown", (event) => this.press(event));
    new ResizeObserver(() => this.isShowing && this.pannellum.resize()).observe(root);
  }

  get isShowing() {
    return Boolean(this.pannellum?.isLoaded());
  }

  /** Show a panorama, looking somewhere: its id, and the URL of its picture. */
  show(id, panorama, { yaw, pitch, fov }) {
    this.clearSpots();
    [this.yawShift, this.marks, this.links] = [0, [], []];
    if (!this.pannellum) return this.begin(id, { panorama, yaw, pitch, hfov: fov });
    this.pannellum.addScene(id, { panorama });
    this.pannellum.loadScene(id, pitch, yaw, fov);
  }

  begin(id, scene) {
    const settings = { ...SETTINGS, firstScene: id };
    this.pannellum = window.pannellum.viewer(this.root, { escapeHTML: true, default: settings, scenes: { [id]: scene } });
    this.pannellum.on("load", () => this.loaded());
    this.pannellum.on("error", this.onError);
  }

  loaded() {
    this.followFrames();
    this.drawSpots();
    this.onShow();
  }

  /** Draw outlines with each frame of pannellum's, which tells of none itself. */
  followFrames() {
    const renderer = this.pannellum.getRenderer();
    if (renderer === this.renderer) return;
    this.renderer = renderer;
    const render = renderer.render;
    renderer.render = (...given) => {
      const result = render.apply(renderer, given);
      this.drawMarks();
      this.onLook(this.frame);
      return result;
    };
  }

  /** Where it looks, and how wide and high. */
  get frame() {
    const { pannellum, root } = this, fov = pannellum.getHfov();
    const height = verticalAngle(fov, root.clientHeight / root.clientWidth || 1);
    return { yaw: wrap(pannellum.getYaw() - this.yawShift), pitch: pannellum.getPitch(), fov, width: fov, height };
  }

  look(yaw, pitch, fov) {
    this.pannellum.stopMovement();
    this.pannellum.lookAt(Math.max(-90, Math.min(90, pitch)), wrap(yaw + this.yawShift), fov, false);
  }

  /** Turn the camera smoothly, the shorter way round; at once where reduced motion is preferred. */
  turnTo(yaw, pitch) {
    this.pannellum.lookAt(pitch, wrap(yaw + this.yawShift), undefined, isCalm ? false : TURN_MS);
  }

  /** Rotate the panorama under the camera, as if its own camera had turned right. */
  rotate(degrees) {
    if (!this.isShowing || degrees === this.yawShift) return;
    const { yaw, pitch } = this.frame;
    this.yawShift = degrees;
    this.look(yaw, pitch);
  }

  /** Outline regions, each a field of view with its kind, and put hot spots there: a text, and what a click does. */
  mark(marks) {
    this.marks = marks;
    this.drawSpots();
  }

  /** Put hot spots to other panoramas where they were linked, in the panorama's own frame. */
  link(links) {
    this.links = links;
    this.drawSpots();
  }

  drawSpots() {
    if (!this.isShowing) return;
    this.clearSpots();
    const marks = this.marks.map((mark) => ({ ...mark, yaw: wrap(mark.yaw + this.yawShift), cssClass: "spot" }));
    for (const { yaw, pitch, text, cssClass, onClick } of [...marks, ...this.links]) {
      const createTooltipFunc = (spot) => { spot.textContent = text; };
      this.pannellum.addHotSpot({ id: this.numSpots++, yaw, pitch, cssClass, createTooltipFunc, clickHandlerFunc: onClick });
    }
    this.drawMarks();
  }

  clearSpots() {
    while (this.numSpots) this.pannellum.removeHotSpot(--this.numSpots);
  }

  drawMarks() {
    const { frame } = this, high = this.root.clientHeight / this.root.clientWidth || 1;
    this.overlay.setAttribute("viewBox", `-1 ${-high} 2 ${2 * high}`);
    const paths = this.marks.flatMap((mark) => {
      const path = cameraPath(outline(mark), frame);
      return [markPath(path, `halo ${mark.kind}`), markPath(path, mark.kind)];
    });
    this.overlay.replaceChildren(...paths);
  }

  press(event) {
    if (!this.isShowing || event.ctrlKey || event.metaKey) return;
    const step = event.shiftKey ? 3 * STEP_DEG : STEP_DEG, { yaw, pitch, fov } = this.frame;
    const keys = {
      ArrowLeft: [yaw - step, pitch], ArrowRight: [yaw + step, pitch],
      ArrowUp: [yaw, pitch + step], ArrowDown: [yaw, pitch - step],
      "+": [yaw, pitch, fov / ZOOM], "-": [yaw, pitch, fov * ZOOM], Home: [0, 0, 90],
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    this.look(...keys[event.key]);
  }
}

/** Make an SVG path of a kind (its class). */
export function markPath(d, kind) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", d);
  path.setAttribute("class", kind);
  return path;
}
