// Looks around in panoramas with pannellum, and draws over it. Angles are those of sphere.js, in degrees.

import { pathWithHalo } from "./elements.js";
import { cameraPath, outline, verticalAngle, wrap } from "./sphere.js";

const TURN_MS = 800;
const ZOOM = 1.1;
const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const SETTINGS = {
  autoLoad: true, escapeHTML: true, minHfov: 20, maxHfov: 120, friction: isCalm ? 1 : 0.15, doubleClickZoom: false,
  disableKeyboardCtrl: true,  // its keys move for as long as they are held: no steps for short taps
  ignoreGPanoXMP: true,  // the server levels what is cropped or tilted
};

export class Viewer {
  /** Shows panoramas in `root`, outlines in `overlay` (an SVG). `onLook` gets where it looks, `onShow` is
      called with the first frame of a panorama, `onError` with a message. */
  constructor(root, overlay, { onLook, onShow, onError }) {
    Object.assign(this, { root, overlay, onLook, onShow, onError });
    this.yawShift = 0;  // rotation of the panorama: its own yaw is `yaw` + `yawShift`
    this.marks = []; this.numSpots = 0;
    new ResizeObserver(() => this.isShowing && this.pannellum.resize()).observe(root);
  }

  get isShowing() {
    return Boolean(this.pannellum?.isLoaded());
  }

  /** Show the panorama of the picture at a URL, looking somewhere. */
  show(panorama, { yaw, pitch, fov: hfov }) {
    this.pannellum?.off().destroy();  // one that is still loading tells nothing any more
    [this.yawShift, this.marks, this.numSpots] = [0, [], 0];
    this.pannellum = window.pannellum.viewer(this.root, { ...SETTINGS, panorama, yaw, pitch, hfov });
    this.pannellum.on("load", () => this.loaded());
    this.pannellum.on("error", this.onError);
  }

  /** Draw outlines with each frame of pannellum's, which tells of none itself. */
  loaded() {
    const renderer = this.pannellum.getRenderer(), { render } = renderer;
    renderer.render = (...given) => {
      const result = render.apply(renderer, given);
      this.drawOutlines();
      this.onLook(this.frame);
      return result;
    };
    this.mark(this.marks);
    this.onShow();
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

  /** Put hot spots at places in the panorama's own frame: a text, its class, and what a click does. Those that
      have a kind are fields of view, and outlined. */
  mark(marks) {
    this.marks = marks;
    if (!this.isShowing) return;
    while (this.numSpots) this.pannellum.removeHotSpot(--this.numSpots);
    for (const { yaw, pitch, text, cssClass, onClick } of marks) {
      const createTooltipFunc = (spot) => { spot.textContent = text; };
      this.pannellum.addHotSpot({ id: this.numSpots++, yaw, pitch, cssClass, createTooltipFunc, clickHandlerFunc: onClick });
    }
    this.drawOutlines();
  }

  drawOutlines() {
    const { frame, root } = this, high = root.clientHeight / root.clientWidth || 1;
    const camera = { ...frame, yaw: frame.yaw + this.yawShift }, outlined = this.marks.filter((mark) => mark.kind);
    this.overlay.setAttribute("viewBox", `-1 ${-high} 2 ${2 * high}`);
    this.overlay.replaceChildren(...outlined.flatMap((mark) => pathWithHalo(cameraPath(outline(mark), camera), mark.kind)));
  }

  /** Let keys look around while an element has the focus: arrows by a step, plus and minus, Home. */
  steerFrom(element, stepDeg) {
    element.addEventListener("keydown", (event) => {
      if (!this.isShowing || event.ctrlKey || event.metaKey) return;
      const step = event.shiftKey ? 3 * stepDeg : stepDeg, { yaw, pitch, fov } = this.frame;
      const keys = {
        ArrowLeft: [yaw - step, pitch], ArrowRight: [yaw + step, pitch],
        ArrowUp: [yaw, pitch + step], ArrowDown: [yaw, pitch - step],
        "+": [yaw, pitch, fov / ZOOM], "-": [yaw, pitch, fov * ZOOM], Home: [0, 0, 90],
      };
      if (!keys[event.key]) return;
      event.preventDefault();
      this.look(...keys[event.key]);
    });
  }
}
