// Looks around in an equirectangular picture. Angles are those of sphere.js, in degrees.

import { RAD, cameraPath, outline, wrap } from "./sphere.js";

const VERTEX = `#version 300 es
in vec2 corner; out vec2 at;
void main() { at = corner; gl_Position = vec4(corner, 0.0, 1.0); }`;
const FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D panorama; uniform vec2 look; uniform vec2 slope;
in vec2 at; out vec4 colour;
const float PI = 3.14159265358979;
void main() {
  vec3 ray = normalize(vec3(at * slope, 1.0));
  float c = cos(look.y), s = sin(look.y);
  ray = vec3(ray.x, ray.y * c + ray.z * s, ray.z * c - ray.y * s);
  float yaw = atan(ray.x, ray.z) + look.x;
  colour = texture(panorama, vec2(yaw / (2.0 * PI) + 0.5, 0.5 - asin(clamp(ray.y, -1.0, 1.0)) / PI));
}`;
const TURN_MS = 800;
const STEP_DEG = 5;
const ZOOM = 1.1;

function buildProgram(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  gl.useProgram(program);
  return program;
}

export class Viewer {
  /** Draws on `canvas`, outlines in `overlay` (an SVG); `onLook` gets where it looks. */
  constructor(canvas, overlay, onLook) {
    Object.assign(this, { canvas, overlay, onLook });
    this.yaw = 0; this.pitch = 0; this.fov = 90;
    this.yawShift = 0;  // rotation of the panorama: its own yaw is `yaw` + `yawShift`
    this.marks = [];
    this.fit();  // at once: a change of size waits for all work of the graphics card
    this.gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false });
    if (!this.gl) throw new Error("this browser has no WebGL 2");
    this.build();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  build() {
    const gl = this.gl, program = buildProgram(gl);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW);
    const corner = gl.getAttribLocation(program, "corner");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    this.uniforms = { look: gl.getUniformLocation(program, "look"), slope: gl.getUniformLocation(program, "slope") };
  }

  /** The widest picture that the graphics card takes, in pixels. */
  get maxWidth() {
    return this.gl.getParameter(this.gl.MAX_TEXTURE_SIZE);
  }

  show(bitmap) {
    const gl = this.gl;
    gl.deleteTexture(this.texture);
    this.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    // Without mipmaps: at the seam the longitude jumps, and they would draw a line there.
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.REPEAT);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    this.isShowing = true;
    this.look(0, 0, 90);
  }

  /** Where it looks, and how wide and high. */
  get frame() {
    const { yaw, pitch, fov } = this, share = this.canvas.clientHeight / this.canvas.clientWidth || 1;
    const height = (2 * Math.atan(Math.tan((fov / 2) * RAD) * share)) / RAD;
    return { yaw, pitch, fov, width: fov, height };
  }

  look(yaw, pitch, fov = this.fov) {
    this.yaw = wrap(yaw);
    this.pitch = Math.max(-90, Math.min(90, pitch));
    this.fov = Math.max(20, Math.min(120, fov));
    this.draw();
  }

  /** Rotate the panorama under the camera, as if its own camera had turned right. */
  rotate(degrees) {
    this.yawShift = degrees;
    this.draw();
  }

  /** Outline regions: fields of view with the kind of mark that they are. */
  mark(marks) {
    this.marks = marks;
    this.draw();
  }

  /** Turn the camera smoothly, the shorter way round; at once where reduced motion is preferred. */
  turnTo(yaw, pitch) {
    const start = performance.now(), fromYaw = this.yaw, fromPitch = this.pitch, way = wrap(yaw - fromYaw);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const turn = (this.turning = (now) => {
      if (this.turning !== turn) return;
      const share = calm ? 1 : Math.min(1, Math.max(0, now - start) / TURN_MS), eased = share * share * (3 - 2 * share);
      this.look(fromYaw + way * eased, fromPitch + (pitch - fromPitch) * eased);
      if (share < 1) requestAnimationFrame(turn);
    });
    requestAnimationFrame(turn);
  }

  /** Give the canvas as many pixels as its place has. */
  fit() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * devicePixelRatio));
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
  }

  /** Draw before the next frame is shown, once for all calls until then. */
  draw() {
    if (!this.isShowing) return;
    this.drawing ??= requestAnimationFrame(() => this.drawNow());
    this.onLook(this.frame);
  }

  drawNow() {
    const gl = this.gl, canvas = this.canvas;
    this.drawing = null;
    this.fit();
    gl.viewport(0, 0, canvas.width, canvas.height);
    const slope = Math.tan((this.fov / 2) * RAD);
    gl.uniform2f(this.uniforms.look, (this.yaw + this.yawShift) * RAD, this.pitch * RAD);
    gl.uniform2f(this.uniforms.slope, slope, (slope * canvas.height) / canvas.width);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    this.drawMarks();
  }

  drawMarks() {
    const high = this.canvas.clientHeight / this.canvas.clientWidth || 1;
    this.overlay.setAttribute("viewBox", `-1 ${-high} 2 ${2 * high}`);
    const paths = this.marks.flatMap((mark) => {
      const path = cameraPath(outline(mark), this);
      return [markPath(path, `halo ${mark.kind}`), markPath(path, mark.kind)];
    });
    this.overlay.replaceChildren(...paths);
  }

  listen() {
    const canvas = this.canvas, fingers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      this.turning = null;
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
    }
    canvas.addEventListener("pointermove", (event) => fingers.has(event.pointerId) && this.drag(fingers, event));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.look(this.yaw, this.pitch, this.fov * (event.deltaY > 0 ? ZOOM : 1 / ZOOM));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  /** One finger or the mouse looks around, two zoom. */
  drag(fingers, event) {
    const before = fingers.get(event.pointerId), [other] = [...fingers.values()].filter((each) => each.pointerId !== event.pointerId);
    fingers.set(event.pointerId, event);
    const share = 1 / Math.max(fingers.size, 1), degrees = (this.fov / this.canvas.clientWidth) * share;
    const yaw = this.yaw - (event.clientX - before.clientX) * degrees;
    const pitch = this.pitch + (event.clientY - before.clientY) * degrees;
    const apart = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY) || 1;
    this.look(yaw, pitch, other ? (this.fov * apart(before)) / apart(event) : this.fov);
  }

  press(event) {
    const step = event.shiftKey ? 3 * STEP_DEG : STEP_DEG, { yaw, pitch, fov } = this;
    const keys = {
      ArrowLeft: [yaw - step, pitch], ArrowRight: [yaw + step, pitch],
      ArrowUp: [yaw, pitch + step], ArrowDown: [yaw, pitch - step],
      "+": [yaw, pitch, fov / ZOOM], "-": [yaw, pitch, fov * ZOOM], Home: [0, 0, 90],
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.turning = null;
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
